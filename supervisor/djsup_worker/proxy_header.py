"""The PROXY protocol's header, versions 1 and 2: what a proxy says of a connection before its first byte.

After HAProxy's doc/proxy-protocol.txt. Pure: bytes in, what they say out. Who may say it is ``trust``'s affair.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Optional, Tuple

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""What version 2 begins with."""
FIXED_BYTES = 16
"""Signature, version and command, family, length."""
V1_BEGIN = b"PROXY "
V1_MAX_BYTES = 107
V2_MAX_BYTES = 4096
"""The document asks for room for 536; extensions (certificates, a cloud's identifiers) may take more."""
LOCAL, PROXY = 0x20, 0x21
TCP_4, TCP_6 = 0x11, 0x21
WITHOUT_ADDRESS = (0x00, 0x31)
"""Unspecified, and a Unix socket at the proxy: neither gives the client an address."""
PORT_MAX = 65535

Address = Tuple[str, str]
"""Host and port."""


class Malformed(ValueError):
    """These bytes begin no PROXY header."""


class Announced(NamedTuple):
    """What a header says."""

    source: Optional[Address]
    """The client; None: the header does not say, or there is none."""
    destination: Optional[Address]
    """Where the client connected to."""
    by_proxy: bool
    """Whether the proxy speaks for itself (a health check), not for a client."""


def needed(data: bytes) -> int:
    """How many bytes the header has that these begin; while that can't be told, more than there are.

    Raises:
        Malformed: no header begins so.
    """
    if V1_BEGIN.startswith(data[: len(V1_BEGIN)]):
        end = data.find(b"\n", 0, V1_MAX_BYTES)
        if end >= 0:
            return end + 1
        if len(data) >= V1_MAX_BYTES:
            raise Malformed
        return len(data) + 1
    if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
        raise Malformed
    if len(data) < FIXED_BYTES:
        return FIXED_BYTES
    whole = FIXED_BYTES + int.from_bytes(data[14:16], "big")
    if whole > V2_MAX_BYTES:
        raise Malformed
    return whole


def read(header: bytes) -> Announced:
    """What a whole header says, no byte more.

    Raises:
        Malformed: it says it wrongly.
    """
    try:
        return _read_2(header) if header.startswith(SIGNATURE) else _read_1(header)
    except (OSError, ValueError, struct.error) as error:
        raise Malformed from error


def _read_1(header: bytes) -> Announced:
    if not header.endswith(b"\r\n"):
        raise Malformed
    words = header[:-2].decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return Announced(None, None, by_proxy=False)  # and whatever follows is to be ignored
    _proxy, family, source, destination, source_port, destination_port = words
    kind = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}.get(family)
    if kind is None:
        raise Malformed
    return Announced(
        (_host_1(kind, source), _port_1(source_port)),
        (_host_1(kind, destination), _port_1(destination_port)),
        by_proxy=False,
    )


def _host_1(kind: socket.AddressFamily, text: str) -> str:
    return socket.inet_ntop(kind, socket.inet_pton(kind, text))


def _port_1(text: str) -> str:
    if not text.isdigit() or text != str(int(text)) or int(text) > PORT_MAX:
        raise Malformed
    return text


def _read_2(header: bytes) -> Announced:
    command, family = header[12], header[13]
    if command == LOCAL:
        return Announced(None, None, by_proxy=True)
    if command != PROXY:
        raise Malformed
    if family in WITHOUT_ADDRESS:
        return Announced(None, None, by_proxy=False)
    if family == TCP_4:
        kind, form = socket.AF_INET, "!4s4sHH"
    elif family == TCP_6:
        kind, form = socket.AF_INET6, "!16s16sHH"
    else:
        raise Malformed  # datagrams do not come over a stream, and the rest is not assigned
    # What follows the addresses are extensions (TLV), and skipped.
    source, destination, source_port, destination_port = struct.unpack_from(form, header, FIXED_BYTES)
    return Announced(
        (socket.inet_ntop(kind, source), str(source_port)),
        (socket.inet_ntop(kind, destination), str(destination_port)),
        by_proxy=False,
    )
