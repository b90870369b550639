"""Adoption: finds what a killed daemon has left, and takes it over.

The earlier daemon wrote down whom it had (``shell/estates.py``, a folder that only its user may write to). Each of
these processes that still lives calls home within a moment, and hands over what only it still holds: listeners,
scoreboard, handover socket. No word of theirs is trusted: the kernel says who calls, a process is one that was
written down by its number and the moment of its start, and a socket is taken for what the kernel says it is.
Programs cannot call: ``program_adoption.py`` looks for them.

Whoever is too busy to call in time is adopted all the same if others of its site have called, and gets its channel when
it calls. A site of which nobody has called has lost its sockets to its busy workers: it is ended and started anew.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djsup.core.actions import Level
from djsup.core.estate import Estate, Stage, TemplateLeft, WorkerLeft
from djsup.core.model import AddressKind
from djsup.program_adoption import ProgramAdoption
from djsup.shell.estates import pin
from djsup.shell.home import Home
from djsup.shell.sockets import CannotListen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from djsup.core.model import Pid
    from djsup.performer import Performer
    from djsup.shell.estates import Found
    from djsup.shell.runtime import RuntimeDirectory
    from djsup_worker import messages

ALL_S = 1.0
"""So long we wait for everybody."""
SOME_S = 10.0
"""So long we wait for somebody of each site."""
HOLDINGS = 4
"""Scoreboard, both ends of the handover socket, and the file for stacks; the listeners follow."""
OTHER_VERSION = "djsup: another version of it was started"
"""Who asks for the reload that follows."""


@dataclass(slots=True, eq=False)
class Orphan:
    """One process that was written down and lives."""

    estate: Estate
    left: TemplateLeft | WorkerLeft
    pidfd: int
    """What pins it: while this is open and not at its end, nobody else has its number."""
    called: bool = False

    @property
    def lives(self) -> bool:
        """Whether it is there yet."""
        return not select.select([self.pidfd], [], [], 0)[0]


class Adoption:
    """The taking over, at the start of a daemon; latecomers are let in afterwards."""

    def __init__(self, runtime: RuntimeDirectory, performer: Performer, version: str) -> None:
        self._performer = performer
        self._version = version
        self._orphans: dict[Pid, Orphan] = {}
        self._home = Home(runtime.home, self._expects, self._called)
        self._programs = ProgramAdoption(runtime.keeper, performer)
        self._something = asyncio.Event()
        self._over = False

    async def gather(self, found: Iterable[Found]) -> tuple[Estate, ...]:
        """Wait for those that are left, and take them over. Gives the sites as the core is to adopt them.

        A site that somebody has stopped is among them, though nothing may be left of it: it is to stay so.
        """
        estates = self._find(found)
        if self._orphans:
            text = f"an earlier daemon has left {len(self._orphans)} processes: waiting for them to call"
            self._performer.say("adoption", text)
            try:
                self._home.open()
            except OSError as error:
                self._performer.say("adoption", f"they cannot call: {error.strerror}", Level.ERROR)
            else:
                await self._wait([estate for estate, _ in estates])
        # Last, and until ``over`` nothing is waited for: meanwhile the keeper reads nothing.
        self._programs.ask()
        taken = [(self._programs.take(estate, born), self._of(estate)) for estate, born in estates]
        self._programs.kill_others()
        adopted = tuple(
            self._take(estate, orphans)
            for estate, orphans in taken
            if orphans
            or estate.stopped_by is not None
            or any(each.pid is not None for each in estate.helpers)
        )
        self._over = True
        self._close_if_done()
        return adopted

    def over(self) -> None:
        """Everything that was taken over is in good hands, should this daemon be killed, too."""
        self._programs.over()

    @property
    def missing(self) -> list[Pid]:
        """Who has not called yet, and may."""
        return [each.left.pid for each in self._orphans.values() if not each.called and each.lives]

    def close(self) -> None:
        """The daemon ends."""
        self._home.close()
        self._programs.close()

    # --- who is left --------------------------------------------------------------------------

    def _find(self, found: Iterable[Found]) -> list[tuple[Estate, Mapping[Pid, int]]]:
        """Look for the processes that were written down; two sites can't have had the same. Each with its times of birth."""
        estates: list[tuple[Estate, Mapping[Pid, int]]] = []
        for each in found:
            estate = each.estate
            if each.version != self._version:
                estate = replace(estate, reloading=OTHER_VERSION)
            if not _is_sane(estate):
                continue
            estates.append((estate, each.born))
            for left in estate.processes:
                pidfd = pin(left.pid, each.born.get(left.pid))
                if pidfd is None:
                    continue
                if left.pid in self._orphans:
                    os.close(pidfd)
                    continue
                self._orphans[left.pid] = Orphan(estate, left, pidfd)
        return estates

    def _of(self, estate: Estate) -> list[Orphan]:
        return [each for each in self._orphans.values() if each.estate is estate]

    async def _wait(self, estates: list[Estate]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for each in self._orphans.values():
            loop.add_reader(each.pidfd, self._ended, each)
        while not self._complete(estates, loop.time() - begun):
            self._something.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(ALL_S / 4):
                    await self._something.wait()

    def _ended(self, orphan: Orphan) -> None:
        asyncio.get_running_loop().remove_reader(orphan.pidfd)
        self._something.set()
        self._close_if_done()

    def _complete(self, estates: list[Estate], waited_s: float) -> bool:
        """Whether nobody is missing for whom it is worth to wait."""
        missing = [each for each in self._orphans.values() if not each.called and each.lives]
        if not missing or waited_s >= SOME_S:
            return True
        waits = {id(each.estate) for each in missing}
        return waited_s >= ALL_S and all(self._has_all(each) for each in estates if id(each) in waits)

    # --- what they call -----------------------------------------------------------------------

    def _expects(self, pid: Pid) -> bool:
        orphan = self._orphans.get(pid)
        if orphan is not None and not orphan.called and orphan.lives:
            return True
        text = f"pid {pid} calls as an orphan and is none that is missing: it is told to go"
        self._performer.say("adoption", text, Level.WARNING)
        return False

    def _called(self, pid: Pid, message: messages.Orphan, channel: socket.socket, fds: list[int]) -> None:
        orphan = self._orphans[pid]
        orphan.called = True
        left = orphan.left
        if message.ready and isinstance(left, WorkerLeft) and left.stage is Stage.BOOTING:
            orphan.left = replace(left, stage=Stage.SERVING)  # it got there while nobody heard it
        self._take_holdings(orphan, fds)
        self._performer.reunite(orphan.left, orphan.estate.settings, channel, message.revision)
        self._something.set()
        self._close_if_done()

    def _close_if_done(self) -> None:
        """Afterwards nobody has to call any more."""
        if not self._over:
            return
        if all(each.called or not each.lives for each in self._orphans.values()):
            self._home.close()
            for each in self._orphans.values():
                asyncio.get_running_loop().remove_reader(each.pidfd)
                os.close(each.pidfd)
            self._orphans.clear()

    def _take_holdings(self, orphan: Orphan, fds: list[int]) -> None:
        """Take what is of use and is what it should be; close the rest."""
        left, performer, name = orphan.left, self._performer, orphan.estate.settings.name
        generation = next(each for each in orphan.estate.generations if each.number == left.generation)
        if len(fds) != HOLDINGS + len(generation.settings.listen):
            if fds:
                text = f'site "{name}": pid {left.pid} handed over {len(fds)} descriptors: not taken'
                performer.say("adoption", text, Level.WARNING, name)
            for fd in fds:
                os.close(fd)
            return
        board, intake_fd, outlet_fd, stacks, *rest = fds
        if self._over or not performer.adopt_scoreboard(name, board):
            os.close(board)
        if self._over or not performer.adopt_stacks(name, stacks):
            os.close(stacks)
        intake, outlet, *listeners = (_socket(fd) for fd in (intake_fd, outlet_fd, *rest))
        if (
            self._over
            or intake is None
            or outlet is None
            or not performer.handovers.adopt(name, left.generation, intake, outlet)
        ):
            _close(intake, outlet)
        closed = self._over or orphan.estate.stopped_by is not None  # nobody is to connect to what is stopped
        for address, listener in zip(generation.settings.listen, listeners, strict=True):
            if closed or listener is None or not performer.listeners.adopt(address, listener):
                _close(listener)
            if address.kind is AddressKind.FD and orphan.estate.stopped_by is None:
                with suppress(CannotListen):  # whoever started us has handed it over again
                    performer.listeners.bind(address)

    # --- what becomes of them -----------------------------------------------------------------

    def _has_all(self, estate: Estate) -> bool:
        """Whether what a site needs to serve on is there, as far as anybody ever had it."""
        if estate.serving is None:
            return True
        name = estate.settings.name
        serving = next(each for each in estate.generations if each.number == estate.serving)
        return (
            name in self._performer.scoreboards
            and (name, estate.serving) in self._performer.handovers
            and all(address in self._performer.listeners for address in serving.settings.listen)
        )

    def _take(self, estate: Estate, orphans: list[Orphan]) -> Estate:
        """Watch over a site's processes from now on. Gives the estate as it is now."""
        name = estate.settings.name
        complete = self._has_all(estate)
        templates: list[TemplateLeft] = []
        workers: list[WorkerLeft] = []
        for orphan in orphans:
            left = orphan.left
            if not orphan.lives:
                self._performer.give_up(left.proc)
                continue
            if isinstance(left, TemplateLeft):
                if complete and orphan.called:
                    templates.append(left)
                else:  # it has nothing else to do than to call: it is stuck
                    _signal(orphan, signal.SIGKILL)
                    self._performer.give_up(left.proc)
                    continue
            elif (
                complete
                and (name, left.generation) in self._performer.handovers
                and (orphan.called or left.stage is not Stage.BOOTING)  # else nobody knows whether it serves
            ):
                workers.append(left)
            else:
                _signal(orphan, signal.SIGTERM)
                workers.append(replace(left, stage=Stage.LEAVING))
            self._performer.take_over(left, estate.settings, os.dup(orphan.pidfd))
        taken = replace(estate, templates=tuple(templates), workers=tuple(workers))
        if not complete:
            return replace(taken, serving=None)
        self._performer.lead_on(taken)
        return taken


def _is_sane(estate: Estate) -> bool:
    """Whether it can be true: each process is of a generation that is there, no row is taken twice."""
    numbers = [each.number for each in estate.generations]
    slots = [each.slot for each in estate.workers]
    return (
        all(each.generation in numbers for each in estate.processes)
        and (estate.serving is None or estate.serving in numbers)
        and len(set(slots)) == len(slots)
        and len({each.generation for each in estate.templates}) == len(estate.templates)
        and max(numbers, default=0) <= estate.last
    )


def _socket(fd: int) -> socket.socket | None:
    try:
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None


def _close(*socks: socket.socket | None) -> None:
    for each in socks:
        if each is not None:
            each.close()


def _signal(orphan: Orphan, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(orphan.pidfd, number)
