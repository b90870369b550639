"""How djsup's own processes are run: the dashboard, the router, the keeper.

Each is a module in the daemon's interpreter; its environment tells it what it is to know, and which descriptors it has.
What is opened for one that starts is closed when it has its copies; whatever is wrong is a CannotRun. Running it is the
performer's, what is said to it later stands in ``router_line.py`` and ``keeper_line.py``.
"""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from djsup.core.model import DASHBOARD_USER
from djsup.keeper import letters
from djsup.shell import heirloom, processes, sockets
from djsup_worker import messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from djsup.core.model import DashboardSettings
    from djsup.doorkeeper import Doorkeeper
    from djsup.performer import Process
    from djsup.router_line import RouterLine


@contextmanager
def dashboard(
    settings: DashboardSettings | None,
    control: Path,
    listeners: sockets.Listeners,
    doorkeeper: Doorkeeper,
    out: int,
    err: int,
) -> Iterator[processes.Command]:
    """What runs the dashboard."""
    if settings is None:
        raise processes.CannotRun("there is no dashboard in the settings")
    with _named("dashboard"):
        listeners.bind(settings.listen)
        listener = listeners.fileno(settings.listen)
        tokens = doorkeeper.read()
        own = {
            "DJSUP_CONTROL": str(control),
            "DJSUP_DASHBOARD_LISTEN": str(settings.listen),
            "DJSUP_DASHBOARD_FD": str(listener),
            "DJSUP_DAEMON_PID": str(os.getpid()),
            "DJSUP_TOKEN_SHA256": " ".join(tokens["full"]),
            "DJSUP_READ_TOKEN_SHA256": " ".join(tokens["read"]),
            "DJSUP_METRICS_PUBLIC": "1" if settings.metrics_public else "",
            "DJSUP_DASHBOARD_PREFIX": settings.prefix,
            "DJSUP_DASHBOARD_HOSTS": " ".join(settings.hosts),
            "DJSUP_DASHBOARD_PROXIES": " ".join(settings.trusted_proxies),
            **_drop("DASHBOARD", dashboard_uid(settings)),
        }
        yield _command("djsup_web", own, (listener,), out, err)


@contextmanager
def router(line: RouterLine, grace_s: float, out: int, err: int) -> Iterator[processes.Command]:
    """What runs the router; the line has a new channel to it then."""
    with _named("router"), line.open() as theirs, heirloom.open_home(line.home) as home:
        own = {
            "DJSUP_ROUTER_FD": str(theirs.fileno()),
            "DJSUP_ROUTER_HOME_FD": str(home.fileno()),
            "DJSUP_ROUTER_GRACE": str(grace_s),
            "DJSUP_ROUTER_REVISION": str(messages.REVISION),
            **_drop("ROUTER", dashboard_uid(None)),
        }
        fds = [theirs.fileno(), home.fileno()]
        if line.vault is not None:
            own["DJSUP_ROUTER_VAULT_FD"] = str(line.vault.fileno())
            fds.append(line.vault.fileno())
        # Its turn is the usual one: what comes together while workers have theirs goes to them in one message.
        yield _command("djsup.router", own, tuple(fds), out, err)


@contextmanager
def keeper(home: Path, process: Process, grace_s: float, out: int, err: int) -> Iterator[processes.Command]:
    """What runs the keeper; the process has a channel to it then."""
    with _named("keeper"):
        process.channel, theirs = letters.open_pair()
        with theirs, heirloom.open_home(home) as listener:
            own = {
                "DJSUP_KEEPER_FD": str(theirs.fileno()),
                "DJSUP_KEEPER_HOME_FD": str(listener.fileno()),
                "DJSUP_KEEPER_GRACE": str(grace_s),
            }
            yield _command("djsup.keeper", own, (theirs.fileno(), listener.fileno()), out, err)


def dashboard_uid(settings: DashboardSettings | None) -> int | None:
    """Whom the dashboard runs as; None: as we do, who are not root.

    Raises:
        KeyError: there is no such user.
    """
    if os.geteuid() != 0:
        return None
    name = DASHBOARD_USER if settings is None or settings.user is None else settings.user
    return pwd.getpwnam(name).pw_uid


def _drop(kind: str, uid: int | None) -> dict[str, str]:
    """Whom one drops to when it has read its own files, which may lie in a folder of root's."""
    if uid is None:
        return {}
    return {f"DJSUP_{kind}_UID": str(uid), f"DJSUP_{kind}_GID": str(pwd.getpwuid(uid).pw_gid)}


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say which it is that can't be run, whatever the reason."""
    try:
        yield
    except (sockets.CannotListen, processes.CannotRun, OSError, ValueError, KeyError) as error:
        raise processes.CannotRun(f"{name}: {error}") from error


def _command(module: str, own: dict[str, str], fds: tuple[int, ...], out: int, err: int) -> processes.Command:
    identity = processes.Identity()
    arguments = (sys.executable, "-I", "-m", module)
    return processes.Command(arguments, "/", processes.environment(identity, own), identity, out, err, fds)
