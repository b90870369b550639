"""A certificate authority for tests: pairs in files, and clients that trust it and nobody else."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class PairFiles:
    """A certificate and its key, as their owner has them on disk."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> bytes:
        return self.certificate.read_bytes() + self.key.read_bytes()


class Authority:
    def __init__(self) -> None:
        self._ca = trustme.CA()

    def issue(
        self,
        folder: Path,
        *names: str,
        file: str = "site",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
    ) -> PairFiles:
        """Write a new pair for these names, as certbot would: over the old one, the key readable by its owner."""
        now = datetime.now(UTC)
        not_before, not_after = not_before or now - timedelta(days=1), not_after or now + timedelta(days=89)
        made = self._ca.issue_cert(*names, not_before=not_before, not_after=not_after, key_type=key_type)
        files = PairFiles(folder / f"{file}.pem", folder / f"{file}.key")
        files.certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        files.key.touch(mode=0o600)
        files.key.write_bytes(made.private_key_pem.bytes())
        return files

    def client_context(self) -> ssl.SSLContext:
        """For a client that believes this authority, as a browser would."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        return context
