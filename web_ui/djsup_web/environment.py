"""What the daemon tells the dashboard at its start, read once from the environment.

Knows the names of the variables and what each must look like; everything else in this package
gets the values as arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BadEnvironment(Exception):
    """A variable is missing or is not what it must be; the text names it and says what is wanted."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The dashboard's whole configuration."""

    control: Path
    """Absolute path of the daemon's control socket."""
    listen: str
    """The address as the configuration writes it; what the descriptor is bound to is the truth."""
    listen_fd: int
    """Descriptor of the listening socket, bound by the daemon."""
    token_sha256: bytes
    """SHA-256 of the token, 32 bytes; the token itself is never here."""
    daemon_pid: int | None
    """The parent that must be alive, None when the daemon did not name itself."""
    uid: int | None
    """The user to become, None: stay who we are."""
    gid: int | None
    metrics_public: bool = False
    """Whether /metrics needs no token."""


def read(variables: Mapping[str, str]) -> Environment:
    """The configuration in ``os.environ``.

    Raises:
        BadEnvironment: a variable is missing or malformed.
    """
    return Environment(
        control=Path(_text(variables, "DJSUP_CONTROL")),
        listen=_text(variables, "DJSUP_DASHBOARD_LISTEN"),
        listen_fd=_number(_text(variables, "DJSUP_DASHBOARD_FD"), "DJSUP_DASHBOARD_FD"),
        token_sha256=_digest(_text(variables, "DJSUP_TOKEN_SHA256")),
        daemon_pid=_number_or_none(variables, "DJSUP_DAEMON_PID"),
        uid=_number_or_none(variables, "DJSUP_DASHBOARD_UID"),
        gid=_number_or_none(variables, "DJSUP_DASHBOARD_GID"),
        metrics_public=variables.get("DJSUP_METRICS_PUBLIC") == "1",
    )


def _text(variables: Mapping[str, str], name: str) -> str:
    value = variables.get(name, "")
    if not value:
        raise BadEnvironment(
            f"{name} is not set: the dashboard is started by `djsup start`, which sets it",
        )
    return value


def _number_or_none(variables: Mapping[str, str], name: str) -> int | None:
    text = variables.get(name)
    return _number(text, name) if text else None


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadEnvironment(f"{name} is {text!r}: a number is wanted")
    return int(text)


def _digest(text: str) -> bytes:
    # The value is not repeated in the message: whoever reads the log need not have it.
    if not _SHA256.fullmatch(text):
        raise BadEnvironment("DJSUP_TOKEN_SHA256 is no SHA-256: 64 lower-case hexadecimal digits are wanted")
    return bytes.fromhex(text)
