"""Disclosure: what an operator may see of the daemon and its configuration from afar, secrets hidden.

Values of environment variables are never shown, and no token; a command or a URL loses what looks like a password.
"""

from __future__ import annotations

import os
import platform
import pwd
import re
import sqlite3
import ssl
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import djsup
from djsup.core.model import Address
from djsup.core.snapshot import to_json
from djsup.shell import queues

if TYPE_CHECKING:
    from pathlib import Path

    from djsup.core.model import Settings
    from djsup.core.snapshot import Snapshot
    from djsup.shell.samples import Measured
    from djsup.shell.sockets import Listeners

HIDDEN = "***"
LIBRARIES = ("aiohttp", "httptools", "cryptography", "pydantic", "structlog", "prometheus-client")
_LOGIN_IN_URL = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")
_NAMED_SECRET = re.compile(
    r"((?:pass(?:word|wd|phrase)?|secret|token|credential|api[-_]?key)[\w-]*(?:\s*[=:]\s*|\s+))\S+",
    re.IGNORECASE,
)


class Observer(Protocol):
    """What is needed of the observer."""

    def measure(self, pid: int) -> Measured:
        """What the kernel says of a process."""


def disclose(
    picture: Snapshot, settings: Settings | None, listeners: Listeners, observer: Observer, runtime_dir: Path
) -> dict[str, Any]:
    """What the verb ``daemon`` answers."""
    own = observer.measure(os.getpid())
    known = to_json(picture)["daemon"]
    return {
        "pid": known["pid"],
        "started_at": known["started_at"],
        "uptime_s": known["uptime_s"],
        "user": _user(),
        "runtime_dir": str(runtime_dir),
        "config": known["config"],
        "memory_bytes": own.pss_bytes,
        "cpu_percent": round(own.cpu_percent, 1),
        "versions": versions(),
        "listeners": [] if settings is None else _listeners(settings, listeners),
        "configuration": {} if settings is None else shown(settings),
    }


def versions() -> dict[str, str]:
    """Of djsup and of what it runs on."""
    found = {
        "djsup": djsup.__version__,
        "Python": platform.python_version(),
        "Linux": platform.release(),
        "SQLite": sqlite3.sqlite_version,
        "OpenSSL": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "),
    }
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _listeners(settings: Settings, listeners: Listeners) -> list[dict[str, Any]]:
    users: dict[Address, list[str]] = {}
    for site in settings.sites:
        for address in site.listen:
            users.setdefault(address, []).append(site.name)
    if settings.dashboard is not None:
        users.setdefault(settings.dashboard.listen, []).append("dashboard")
    return [
        {
            "address": str(address),
            "bound": address in listeners,
            "waiting": queues.waiting(listeners.socket(address)) if address in listeners else 0,
            "used_by": names,
        }
        for address, names in users.items()
    ]


def shown(value: Any, name: str = "") -> Any:
    """A setting as JSON, secrets hidden."""
    match value:
        case Address():
            return str(value)
        case Enum():
            return value.value
        case tuple() if name == "env":
            return {variable: HIDDEN for variable, _ in value}
        case tuple():
            return [shown(each) for each in value]
        case str():
            return _NAMED_SECRET.sub(rf"\1{HIDDEN}", _LOGIN_IN_URL.sub(HIDDEN, value))
        case _ if is_dataclass(value):
            return {field.name: shown(getattr(value, field.name), field.name) for field in fields(value)}
        case _:
            return value


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
