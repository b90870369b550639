"""The run: one fault after the other, and after each what must be true whatever happened."""

from __future__ import annotations

import os
import random
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from chaos.clients import Clients, Excuse, Failure
from chaos.faults import FAULTS, Inflicting, Skipped, daemon_killed, is_gone
from chaos.fleet import SETTLED_S, Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GROWTH_MAX_BYTES = 5 * 2**20
WARM_FAULTS = 12
"""After so many faults a daemon has loaded whatever it loads late; what it grows by after that is a leak."""
DESCRIPTORS_SLACK = 2
"""A client of the control socket, and one that is just being closed."""
DAEMON_DIES_EVERY = 40
"""So a daemon lives long enough for a leak to show."""


@dataclass
class Row:
    """One kind of fault."""

    times: int = 0
    skipped: str = ""
    explained: int = 0
    recoveries_s: list[float] = field(default_factory=list)


@dataclass
class Run:
    """One run with a seed."""

    fleet: Fleet
    seed: int
    tell: Callable[[str], None] = lambda _text: None
    rows: dict[str, Row] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """Invariants that did not hold."""
    excuses: list[Excuse] = field(default_factory=list)
    unexplained: list[Failure] = field(default_factory=list)
    growth_bytes: int = 0
    """The most that one daemon has grown by since it was warm."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.clients = Clients(self.fleet.ports)
        self._judged = 0
        self._lived = 0
        """How many faults this daemon has seen."""
        self._warm_bytes: int | None = None
        self._descriptors: int | None = None

    def play(self, seconds: float, faults: Sequence[Callable[[Inflicting], None]] = FAULTS) -> None:
        """Faults until the time is over, each at least once if there is time; then the end."""
        self.begin()
        end = time.monotonic() + seconds
        turn: list[Callable[[Inflicting], None]] = []
        number = 0
        while time.monotonic() < end and not self.broken:
            number += 1
            if number % DAEMON_DIES_EVERY == DAEMON_DIES_EVERY // 2:
                self.inflict(daemon_killed)
                continue
            turn = turn or self._random.sample(faults, len(faults))
            self.inflict(turn.pop())
        self.end()

    def begin(self) -> None:
        """Start the daemon, and the load once all is well."""
        self.fleet.daemon.start()
        self._become_well("the start")
        self.clients.start()

    def inflict(self, fault: Callable[[Inflicting], None]) -> None:
        """One fault, and how long it takes until all is well again."""
        name = fault.__name__.replace("_", " ")
        row = self.rows.setdefault(name, Row())
        it = Inflicting(self.fleet, random.Random(self._random.random()), name, self.excuses)
        daemon = self.fleet.daemon.pid
        try:
            fault(it)
        except Skipped as why:
            row.skipped = str(why)
            return
        except (OSError, psutil.Error) as error:
            if not is_gone(error):
                raise
        row.times += 1
        begun = time.monotonic()
        if self._become_well(name, frozenset(it.gone)):
            row.recoveries_s.append(time.monotonic() - begun)
        if self.fleet.daemon.pid != daemon:
            self._lived, self._warm_bytes, self._descriptors = 0, None, None
        self._lived += 1
        self.tell(f"{name}: {time.monotonic() - begun:.2f} s")
        self._judge(name)

    def _become_well(self, fault: str, gone: frozenset[int] = frozenset()) -> bool:
        end = time.monotonic() + SETTLED_S
        while what := self.fleet.unwell(gone):
            if self.fleet.daemon.process is not None and self.fleet.daemon.process.poll() is not None:
                self.broken.append(f"after {fault}: the daemon has ended")
                return False
            if time.monotonic() > end:
                self.broken.append(f"after {fault}: not well for {SETTLED_S:g} s: {what}")
                return False
            time.sleep(0.005)
        return True

    # --- what must be true -----------------------------------------------------------------------

    def _judge(self, fault: str) -> None:
        self._judge_failures()
        if self.broken:
            return
        for question in (self._processes, self._open_descriptors, self._mistakes):
            wrong = ""
            end = time.monotonic() + 10
            while (wrong := question()) and time.monotonic() < end:
                time.sleep(0.1)
            if wrong:
                self.broken.append(f"after {fault}: {wrong}")
        self._weigh()
        self._make_room()

    def _judge_failures(self) -> None:
        failures = self.clients.failures
        for failure in failures[self._judged :]:
            excuse = next((each for each in self.excuses if each.covers(failure)), None)
            if excuse is None:
                self.unexplained.append(failure)
                self.broken.append(f"a request failed that no dead or stopped worker held: {failure}")
            else:
                self.rows[excuse.fault].explained += 1
            self._judged += 1

    def _processes(self) -> str:
        known = self.fleet.known()
        left = {
            pid: each for pid, each in self.fleet.processes().items() if pid not in known and _lives(each)
        }
        return f"processes that the daemon does not know: {list(left.values())}" if left else ""

    def _open_descriptors(self) -> str:
        number = psutil.Process(self.fleet.daemon.pid).num_fds()
        if self._descriptors is None:
            self._descriptors = number
        more = number - self._descriptors
        return f"the daemon has {more} descriptors more than at first" if more > DESCRIPTORS_SLACK else ""

    def _mistakes(self) -> str:
        log = self.fleet.daemon.log
        at = log.find("djsup's mistake")
        return "" if at < 0 else f"the daemon tells of a mistake of its own: {log[at : at + 2000]}"

    def _weigh(self) -> None:
        memory = psutil.Process(self.fleet.daemon.pid).memory_info().rss
        if self._lived == WARM_FAULTS:
            self._warm_bytes = memory
        if self._warm_bytes is not None:
            growth = memory - self._warm_bytes
            self.growth_bytes = max(self.growth_bytes, growth)
            if growth > GROWTH_MAX_BYTES:
                self.broken.append(f"the daemon has grown by {growth / 2**20:.1f} MiB")

    def _make_room(self) -> None:
        """What the load writes into access logs would fill the small disk by itself."""
        for path in (self.fleet.disk / "log").glob("*.access.log*"):
            with suppress(OSError):
                os.truncate(path, 0)

    def end(self) -> None:
        """Stop the load and the daemon: nothing may be left."""
        self.clients.stop()
        self._judge_failures()
        if self.fleet.daemon.process is None or self.fleet.daemon.process.poll() is not None:
            return
        self.fleet.daemon.run("stop")
        with suppress(Exception):
            self.fleet.daemon.wait_end()
        end = time.monotonic() + 15
        while (left := self.fleet.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        if left:
            self.broken.append(f"processes outlive the daemon: {list(left.values())}")
        if files := self.fleet.temporary_files():
            self.broken.append(f"temporary files are left: {files}")
        stayed = {each.name for each in self.fleet.daemon.runtime.iterdir()} & {
            "djsup.pid",
            "control.sock",
            "estates",
        }
        if stayed:
            self.broken.append(f"the daemon leaves {stayed} behind")

    # --- the report ------------------------------------------------------------------------------

    def table(self) -> str:
        head = f"{'fault':36}{'times':>6}{'failed, explained':>19}{'recovered: median':>19}{'worst':>9}"
        lines = [head]
        for name, row in sorted(self.rows.items()):
            if row.skipped and not row.times:
                lines.append(f"{name:36}{'-':>6}  {row.skipped}")
                continue
            times = row.recoveries_s or [float("nan")]
            median, worst = statistics.median(times), max(times)
            lines.append(f"{name:36}{row.times:6}{row.explained:19}{median:17.2f} s{worst:7.2f} s")
        number = sum(row.times for row in self.rows.values())
        explained = sum(row.explained for row in self.rows.values())
        lines.append(
            f"{number} faults, {self.clients.answers} answers on {self.clients.connections} connections: "
            f"{explained} failures that a fault explains, {len(self.unexplained)} unexplained; "
            f"the daemon grew by {self.growth_bytes / 2**20:.1f} MiB at most"
        )
        return "\n".join(lines)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
