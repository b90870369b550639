"""What the daemon tells the dashboard at its start, read once from the environment.

Knows the names of the variables and what each must look like; everything else in this package
gets the values as arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from djsup_web import proxies

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup_web.proxies import Proxies

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
    tokens_sha256: tuple[bytes, ...]
    """SHA-256 of each token, 32 bytes; a token itself is never here."""
    daemon_pid: int | None
    """The parent that must be alive, None when the daemon did not name itself."""
    uid: int | None
    """The user to become, None: stay who we are."""
    gid: int | None
    metrics_public: bool = False
    """Whether /metrics needs no token."""
    read_tokens_sha256: tuple[bytes, ...] = ()
    """As the others, of those that may look only."""
    prefix: str = ""
    """The path below which a proxy shows the dashboard; empty: /."""
    hosts: tuple[str, ...] = ()
    """Names of the dashboard beside its address."""
    proxies: Proxies = proxies.NONE


def read(variables: Mapping[str, str]) -> Environment:
    """The configuration in ``os.environ``.

    Raises:
        BadEnvironment: a variable is missing or malformed.
    """
    return Environment(
        control=Path(_text(variables, "DJSUP_CONTROL")),
        listen=_text(variables, "DJSUP_DASHBOARD_LISTEN"),
        listen_fd=_number(_text(variables, "DJSUP_DASHBOARD_FD"), "DJSUP_DASHBOARD_FD"),
        tokens_sha256=_digests(_text(variables, "DJSUP_TOKEN_SHA256"), "DJSUP_TOKEN_SHA256"),
        daemon_pid=_number_or_none(variables, "DJSUP_DAEMON_PID"),
        uid=_number_or_none(variables, "DJSUP_DASHBOARD_UID"),
        gid=_number_or_none(variables, "DJSUP_DASHBOARD_GID"),
        metrics_public=variables.get("DJSUP_METRICS_PUBLIC") == "1",
        read_tokens_sha256=_digests(variables.get("DJSUP_READ_TOKEN_SHA256", ""), "DJSUP_READ_TOKEN_SHA256"),
        prefix=variables.get("DJSUP_DASHBOARD_PREFIX", ""),
        hosts=tuple(variables.get("DJSUP_DASHBOARD_HOSTS", "").split()),
        proxies=_proxies(variables.get("DJSUP_DASHBOARD_PROXIES", "")),
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


def _digests(text: str, name: str) -> tuple[bytes, ...]:
    # The value is not repeated in the message: whoever reads the log need not have it.
    if not all(_SHA256.fullmatch(each) for each in text.split()):
        raise BadEnvironment(f"{name} is no SHA-256: 64 lower-case hexadecimal digits are wanted")
    return tuple(bytes.fromhex(each) for each in text.split())


def _proxies(text: str) -> Proxies:
    try:
        return proxies.parse(text.split())
    except ValueError as error:
        raise BadEnvironment(f"DJSUP_DASHBOARD_PROXIES has what is no network: {error}") from error
