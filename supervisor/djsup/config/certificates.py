"""A certificate and its key: read from their files, and found to belong together.

Used when a configuration is loaded and again when the files change. Leaves to OpenSSL, in the workers, what a
certificate is good for. Imported only where a site has TLS, for ``cryptography`` takes a while.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

if TYPE_CHECKING:
    from datetime import datetime

    from djsup.core.model import CertificateFiles

SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
FILE_MAX_BYTES = 256 * 1024
NAMES_MAX_BYTES = 6000
"""Of a certificate with more names the first are looked at: all certificates of a site travel in one message."""


class BadPair(Exception):
    """A pair is of no use; ``key`` names the setting at fault, ``certificate`` or ``key``."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key that belong together."""

    pem: bytes = field(repr=False)
    """The chain, then the key."""
    names: tuple[str, ...]
    """The host names and addresses that the certificate is for."""
    begins_at: datetime
    ends_at: datetime
    others_read_key: bool = field(compare=False)
    """Whether every user of this machine can read the key's file."""


def read(files: CertificateFiles) -> Pair:
    """Read a pair.

    Raises:
        BadPair: a file can't be read, holds something else, or the two do not belong together.
    """
    chain, _ = _content("certificate", files.certificate)
    secret, mode = _content("key", files.key)
    try:
        certificates = x509.load_pem_x509_certificates(chain)
        leaf = certificates[0]
        public = [each.public_key().public_bytes(*SPKI) for each in certificates]
        pair = Pair(
            pem=chain.rstrip(b"\n") + b"\n" + secret,
            names=_names(leaf),
            begins_at=leaf.not_valid_before_utc,
            ends_at=leaf.not_valid_after_utc,
            others_read_key=bool(mode & stat.S_IROTH),
        )
    except Exception:  # noqa: BLE001 -- a parser of files that may hold anything
        raise BadPair("certificate", f"{files.certificate} holds no certificate in PEM") from None
    try:
        own = load_pem_private_key(secret, None).public_key().public_bytes(*SPKI)
    except TypeError:
        locked = f"the key in {files.key} has a password, and nobody is there to type it"
        raise BadPair("key", locked) from None
    except Exception:  # noqa: BLE001 -- as above
        raise BadPair("key", f"{files.key} holds no private key in PEM") from None
    if own != public[0]:
        text = f"the key in {files.key} does not match the certificate in {files.certificate}"
        if own in public:
            text += "; the certificate itself comes first in the file, its chain behind it"
        raise BadPair("key", text)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    except OSError as error:
        raise BadPair("certificate", f"OpenSSL refuses {files.certificate}: {error}") from error
    return pair


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether a certificate for these names is one for this host name, in lower case (RFC 6125, 6.4.3)."""
    return host in names or "*." + host.partition(".")[2] in names


def _content(key: str, file: str) -> tuple[bytes, int]:
    """What a file holds, and its mode."""
    try:
        with Path(file).open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise BadPair(key, f"cannot read {file}: {error.strerror}") from error
    if len(content) > FILE_MAX_BYTES:
        raise BadPair(key, f"{file} is longer than {FILE_MAX_BYTES} bytes")
    return content, mode


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    names: list[str] = []
    left = NAMES_MAX_BYTES
    for name in (*found.get_values_for_type(x509.DNSName), *found.get_values_for_type(x509.IPAddress)):
        word = "".join(str(name).lower().split())  # made by others: one word, whatever stands there
        left -= len(word) + 1
        if left < 0:
            break
        names.append(word)
    return tuple(names)
