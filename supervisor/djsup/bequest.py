"""The bequest: what the daemon's program hands to the one that replaces it in the same process.

Versioned JSON in sealed memory, with the numbers of the descriptors that stay open. What is read is validated as any
input is, for an older or a newer version may have written it: names that it does not know are passed over, what is
missing has a default or makes it unreadable, and then the old program goes on (``upgrade.py`` proves it beforehand).

FORMAT grows when the meaning of something changes; what is only added gets a default.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, fields, replace
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from djsup.core.estate import Estate  # noqa: TC001 -- as all of these: the types of what is decoded
from djsup.core.memory import ProcessLeft  # noqa: TC001
from djsup.core.model import Address, Generation, Pid, ProcId, Settings, SiteName  # noqa: TC001
from djsup.keeper.letters import Farewell  # noqa: TC001
from djsup.router.orders import Figures as Routed  # noqa: TC001
from djsup.shell import samples, sockets, succession
from djsup.shell.logs import Held, Line  # noqa: TC001
from djsup.shell.samples import Totals  # noqa: TC001
from djsup_worker import messages, scoreboard

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = 1
LINES_MAX = 20_000
"""Lines of the sites' output that are handed over, of all sites together."""


class Unreadable(Exception):
    """It is no bequest, or not one that this version can go on with; the text says why."""


@dataclass(frozen=True, slots=True)
class ProcessHeld:
    """One process, as the performer knows it."""

    proc: ProcId
    site: SiteName
    generation: Generation
    slot: int | None
    pid: Pid
    pidfd: int
    with_group: bool
    killed_by_us: bool
    capture: Held
    channel: int | None
    notifications: int | None
    ready: bool
    boots: bool
    spoke: bool
    adopted: bool
    tls: bool
    heir: Generation | None = None
    farewell: Farewell | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the operating system gave the performer."""

    processes: tuple[ProcessHeld, ...]
    listeners: tuple[tuple[Address, int], ...]
    named: tuple[tuple[str, int], ...]
    """Sockets that whoever started the daemon has handed over, by name."""
    handovers: tuple[tuple[SiteName, Generation, int, int], ...]
    scoreboards: tuple[tuple[SiteName, int], ...]
    stacks: tuple[tuple[SiteName, int], ...]
    private_folders: dict[SiteName, str]
    dashboard_pid: Pid | None
    heirs: tuple[tuple[SiteName, Generation, Generation], ...] = ()
    """Which generation gets whose connections."""
    vault: int | None = None
    """The line to the router's vault."""

    @property
    def fds(self) -> Iterator[int]:
        """Every descriptor."""
        for each in self.processes:
            found = (each.pidfd, each.channel, each.notifications, each.capture.stdout, each.capture.stderr)
            yield from (fd for fd in found if fd is not None)
        yield from (fd for _, fd in (*self.listeners, *self.named, *self.scoreboards, *self.stacks))
        for _, _, intake, outlet in self.handovers:
            yield from (intake, outlet)
        if self.vault is not None:
            yield self.vault


@dataclass(frozen=True, slots=True)
class Figures:
    """What was counted, so that no counter begins anew."""

    sites: tuple[tuple[SiteName, Totals, float], ...]
    """Of each site's processes that are gone: their totals, and their processor time in seconds."""
    overdue: tuple[tuple[ProcId, tuple[int, ...]], ...]
    """Requests that were told of as too long, by when they began."""
    events: tuple[tuple[str | None, str, int], ...]
    """How many of each site and kind there were."""
    routed: tuple[tuple[SiteName, Routed, Routed], ...] = ()
    """What routers have done for each site: those that are gone, and the one that runs."""


@dataclass(frozen=True, slots=True)
class Bequest:
    """Everything."""

    format: int
    version: str
    """Of the djsup that has written it."""
    messages: str
    """``digest()`` of what it and its workers say to each other."""
    number: int
    """How many times this process has replaced its program, this time counted."""
    by: str
    handed_at: float
    """When it stopped to act, on the monotonic clock, and (below) on the wall's."""
    handed_at_wall: float
    started_at: float
    started: float
    settings: Settings
    sites: tuple[Estate, ...]
    last_proc: int
    dashboard: ProcessLeft
    holdings: Holdings
    figures: Figures
    lines: tuple[Line, ...]
    lock: int
    control: int
    dashboard_control: int
    ready_fd: int | None
    keeper: ProcessLeft | None = None
    series: int | None = None
    """Sealed memory with what was measured (``series_left.py``); None: there is none, as at the proof."""

    @property
    def fds(self) -> tuple[int, ...]:
        """Every descriptor that it names."""
        some = tuple(fd for fd in (self.ready_fd, self.series) if fd is not None)
        return (*self.holdings.fds, self.lock, self.control, self.dashboard_control, *some)

    def write(self) -> bytes:
        """As it is handed over."""
        return _adapter().dump_json(self)


@cache
def _adapter() -> TypeAdapter[Bequest]:
    """Made when it is needed: that takes as long as a third of a start."""
    return TypeAdapter(Bequest)


def read(fd: int) -> Bequest:
    """The bequest behind a descriptor.

    Raises:
        Unreadable: see there.
    """
    try:
        raw = json.loads(succession.read(fd))
        if raw["format"] != FORMAT:
            raise Unreadable(
                f"djsup {raw.get('version')} hands over format {raw['format']}, this one reads {FORMAT}"
            )
        found = _adapter().validate_python(raw, strict=False)
        succession.take(found.fds)
        _check(found.holdings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"])
        raise Unreadable(f"{error.error_count()} mistakes, the first at {where}: {first['msg']}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreadable(str(error) or repr(error)) from error
    return found


def _check(holdings: Holdings) -> None:
    """Look whether descriptors are what they are called.

    Raises:
        ValueError: one is not.
    """
    for address, fd in holdings.listeners:
        with socket.socket(fileno=os.dup(fd)) as listener:
            if not sockets.listens(listener):
                raise ValueError(f"descriptor {fd} is no listener, as {address} should be")
    for site, fd in holdings.scoreboards:
        samples.Scoreboard(site, os.dup(fd)).close()


def reloaded(estate: Estate, by: str) -> Estate:
    """With a reload asked for, by whoever has one running already, else by somebody else."""
    running = None if estate.memory is None else estate.memory.generations.rollout
    return replace(estate, reloading=running.by if running is not None and running.reported else by)


def digest() -> str:
    """What a daemon and its workers have to agree upon: the messages, field by field, and the layout of a scoreboard."""
    kinds = {
        name: [(each.name, str(each.type)) for each in fields(kind)]
        for name, kind in sorted(messages.KINDS.items())
    }
    layout = {
        name: value
        for name, value in sorted(vars(scoreboard).items())
        if name.isupper() and isinstance(value, (int, float))
    }
    agreed = json.dumps([messages.REVISION, kinds, layout])
    return sha256(agreed.encode()).hexdigest()[:16]
