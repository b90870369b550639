"""The rules of ``[sites.NAME.tls]`` that need more than one value: addresses, pairs, names, where http is sent on to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from djsup.config import certificates
from djsup.core.model import Address, AddressKind, CertificateFiles, TlsSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djsup.config.certificates import Pair
    from djsup.config.documents import Documents
    from djsup.config.places import KeyPath
    from djsup.config.problem import Problem
    from djsup.config.schema import CertificateTable, TlsTable

CERTIFICATES_MAX = 16
"""Of one site: each is a file descriptor in one message to its workers."""
HTTPS_PORT = 443


class Report(Protocol):
    """Where a broken rule is told."""

    def __call__(self, path: KeyPath, **words: str | None) -> None:
        """Tell of a problem at a key, unless one is told of it already."""


class TlsRules:
    """The rules for one site's table, which stands at ``path``."""

    def __init__(self, documents: Documents, wrong: Report, warnings: list[Problem], path: KeyPath) -> None:
        self._documents = documents
        self._wrong = wrong
        self._warnings = warnings
        self._path = path

    def settle(
        self,
        table: TlsTable,
        listen: tuple[Address, ...],
        shared: tuple[Address, ...],
        hosts: Sequence[str],
    ) -> TlsSettings:
        """The settings; the table names the addresses ``listen``, or has those that it shares with others."""
        if not listen and not shared:
            hint = 'is missing: the addresses that speak TLS, as ["0.0.0.0:443"], here or as tls_listen at the top'
            self._wrong((*self._path, "listen"), hint=hint)
        if len(table.certificates) >= CERTIFICATES_MAX:
            self._wrong(
                (*self._path, "certificates"), hint=f"more than {CERTIFICATES_MAX} certificates of one site"
            )
        tables: list[tuple[KeyPath, TlsTable | CertificateTable]] = [(self._path, table)]
        tables += [
            ((*self._path, "certificates", index), each) for index, each in enumerate(table.certificates)
        ]
        files = [self._files(path, each) for path, each in tables]
        pairs = [self._pair(path, each) for (path, _), each in zip(tables, files, strict=True)]
        if None not in pairs:
            self._expect_names([pair for pair in pairs if pair is not None], hosts)
        return TlsSettings(listen, tuple(files), _origin(table.redirect, listen or shared), table.hsts or "")

    def _files(self, path: KeyPath, table: TlsTable | CertificateTable) -> CertificateFiles:
        return CertificateFiles(
            self._documents.absolute((*path, "certificate"), table.certificate),
            self._documents.absolute((*path, "key"), table.key),
        )

    def _pair(self, path: KeyPath, files: CertificateFiles) -> Pair | None:
        if any(self._documents.is_broken((*path, key)) for key in ("certificate", "key")):
            return None
        try:
            pair = certificates.read(files)
        except certificates.BadPair as error:
            self._wrong((*path, error.key), hint=str(error))
            return None
        now = datetime.now(UTC)
        if pair.ends_at <= now:
            self._warn((*path, "certificate"), f"has expired on {pair.ends_at:%Y-%m-%d}: browsers refuse it")
        elif pair.begins_at > now:
            self._warn(
                (*path, "certificate"), f"is valid from {pair.begins_at:%Y-%m-%d} on only: browsers refuse it"
            )
        if pair.others_read_key:
            hint = f"can be read by every user of this machine; djsup alone needs it: chmod o= {files.key}"
            self._warn((*path, "key"), hint)
        return pair

    def _expect_names(self, pairs: Sequence[Pair], hosts: Sequence[str]) -> None:
        without = [host for host in hosts if not any(certificates.covers(pair.names, host) for pair in pairs)]
        if without:
            there = ", ".join(name for pair in pairs for name in pair.names) or "none"
            hint = f"is for {there}; no certificate of this site is for {', '.join(without)}"
            self._warn((*self._path, "certificate"), hint)

    def _warn(self, path: KeyPath, hint: str) -> None:
        self._warnings.append(self._documents.problem(path, hint=hint))


def _origin(redirect: bool | str, listen: tuple[Address, ...]) -> str:
    """Where plain http is sent on to; empty: it is not."""
    if isinstance(redirect, str):
        return redirect
    if not redirect:
        return ""
    port = next((each.port for each in listen if each.kind is AddressKind.TCP), HTTPS_PORT)
    return "https://{host}" if port == HTTPS_PORT else f"https://{{host}}:{port}"
