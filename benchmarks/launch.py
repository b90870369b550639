"""What a server is told when it is started, and the certificate of its TLS."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import Application


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key (P-256, PKCS #8)."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of one server."""

    application: Application
    workers: int
    threads: int
    port: int
    folder: Path
    """A folder of its own, gone when it has ended."""
    environment: Path
    """The virtualenv that the application runs in; a rival lives there, too."""
    tls: Certificate | None
    keep_alive: bool
    """Whether clients send more than one request over a connection."""
    static: bool = False
    """Whether it is to serve the static files by itself: only where they are asked for, for it costs memory."""

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def programs(self) -> Path:
        """Where the virtualenv has its programs."""
        return self.environment / "bin"


def make_certificate(folder: Path) -> Certificate:
    """Have openssl make one, valid for a day.

    Raises:
        OSError, subprocess.CalledProcessError: it is not here, or does not know what is asked for.
    """
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    new = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "1"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-out", str(made.certificate), "-keyout", str(made.key)]
    subprocess.run(["openssl", "req", *new, *name, *files], capture_output=True, check=True)
    return made
