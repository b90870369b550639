"""The observer: what is measured, beside what the core decides.

Looks at the scoreboards once a second (a request that runs too long becomes an event) and completes the
core's snapshot with figures when somebody asks. Never decides anything.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from djsup.core import events
from djsup.core.model import Pid, SiteName, Slot
from djsup.core.snapshot import (
    CurrentRequest,
    QueueSnapshot,
    ReloadReport,
    SiteSnapshot,
    WorkerSnapshot,
    WorkerState,
)
from djsup.recorder import Recorder, Seen
from djsup.shell import queues
from djsup.shell.samples import Cores, Measured, Meter, SiteSamples, Totals
from djsup.trials import Trials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from djsup.core.events import Event
    from djsup.core.model import Address, Limits, ProcId, Settings, SiteSettings
    from djsup.performer import Performer, Process
    from djsup_worker.scoreboard import Row, Running

SAMPLE_S = 1.0
"""How often the scoreboards are looked at."""
MEMORY_EVERY = 5
"""Memory of the workers that have a limit is measured every so many looks."""
LIMIT_FRESH_S = 4.0
"""And then it is at most so old."""


class Observer:
    """Looks at the workers that the performer has running."""

    def __init__(self, performer: Performer, tell: Callable[[Event], None]) -> None:
        self._performer = performer
        self._tell = tell
        self._sites: dict[SiteName, SiteSamples] = {}
        self._overdue: dict[ProcId, set[int]] = {}
        self._loads: dict[SiteName, Cores] = {}
        self._trials = Trials()
        self._meter = Meter()
        self._looks = 0
        self.recorder = Recorder(self._meter)
        performer.retired = self.retire

    def retire(self, process: Process) -> None:
        """A process is gone: count on from what it had counted."""
        if row := self._row(process):
            self._sites.setdefault(process.site, SiteSamples()).retire(row)
            self._trials.retire(process, row)
        self._overdue.pop(process.proc, None)
        if process.pid is not None:
            cpu_s = self._meter.forget(process.pid)
            if process.site in self._sites:
                self._sites[process.site].retired_cpu_s += cpu_s

    def counted(self) -> tuple[list[tuple[SiteName, Totals, float]], list[tuple[ProcId, tuple[int, ...]]]]:
        """What another program of the daemon needs so that nothing is counted anew, and nothing told twice."""
        sites = [(name, each.retired, each.retired_cpu_s) for name, each in self._sites.items()]
        return sites, [(proc, tuple(sorted(told))) for proc, told in self._overdue.items()]

    def count_on(
        self,
        sites: Iterable[tuple[SiteName, Totals, float]],
        overdue: Iterable[tuple[ProcId, tuple[int, ...]]],
    ) -> None:
        """Count on from there; the performer has the processes already."""
        now = time.monotonic()
        for name, retired, cpu_s in sites:
            figures = self._sites[name] = SiteSamples(retired.as_here(), cpu_s)
            totals = figures.totals([row for _, row in self._rows(name)])
            figures.basis = totals.histogram
            self.recorder.count_on(name, now, totals)
        self._overdue = {proc: set(told) for proc, told in overdue}

    def look(self, settings: Settings) -> None:
        """One look at every scoreboard: figures are added, what is over its limit is told."""
        now = time.monotonic()
        self._looks += 1
        looked = self._rows_by_site()
        for site in settings.sites:
            found = looked.get(site.name, [])
            figures = self._sites.get(site.name)
            if not found:
                if figures is not None:
                    figures.rest()
                    self.recorder.rest(site.name, now)
                self._loads.pop(site.name, None)
                continue
            figures = figures or self._sites.setdefault(site.name, SiteSamples())
            totals = figures.add(now, [row for _, row in found])
            self._record(site, found, totals, now)
            if site.workers.scales:
                self._tell_load(site, found, totals.requests, now)
            if (sample := self._trials.look(site.name, found)) is not None:
                self._tell(sample)
            limits = site.limits
            for process, row in found:
                if limits.request_timeout_s:
                    self._look_for_overdue(process, row, now, limits)
                if limits.max_requests or limits.max_memory_bytes or limits.max_lifetime_s:
                    self._tell(
                        events.MemorySampled(
                            process.proc, self._private(process, limits.max_memory_bytes), row.requests
                        )
                    )
        for gone in self._sites.keys() - {site.name for site in settings.sites}:
            self._trials.forget(gone)
            if gone not in self._performer.scoreboards:
                del self._sites[gone]
                self.recorder.forget(gone)

    def _record(
        self, site: SiteSettings, found: list[tuple[Process, Row]], totals: Totals, now: float
    ) -> None:
        """Keep what this second was like."""
        workers = [
            Seen(
                Slot(process.slot),
                process.pid,
                row,
                serves=process.ready and row.state == "serving",
                adopted=process.adopted,
            )
            for process, row in found
            if process.slot is not None and process.pid is not None
        ]
        board = self._performer.scoreboards.get(site.name)
        if board is not None:
            for seen in workers:
                self.recorder.note(site.name, now, seen, board.notes)
        self.recorder.record(site.name, now, workers, totals, self._waiting(site.listen))

    def _tell_load(
        self, site: SiteSettings, found: list[tuple[Process, Row]], requests: int, now: float
    ) -> None:
        """How busy a site that may scale is."""
        pids = [process.pid for process, _ in found if process.pid is not None]
        serving = [row for process, row in found if process.ready and row.state == "serving"]
        self._tell(
            events.LoadSampled(
                site.name,
                busy_threads=sum(len(row.running) for row in serving),
                waiting=self._waiting(site.listen) + self._performer.router.figures(site.name).queued,
                cores=self._loads.setdefault(site.name, Cores()).used(pids, now),
                connections=sum(row.connections for _, row in found),
                requests=requests,
            )
        )

    def _private(self, process: Process, limit: int) -> int:
        if not limit or process.pid is None or self._looks % MEMORY_EVERY:
            return 0
        return self._meter.measure(process.pid, LIMIT_FRESH_S).private_bytes

    def _look_for_overdue(self, process: Process, row: Row, now: float, limits: Limits) -> None:
        if not process.ready:
            return  # its health question has the boot's time limit
        told = self._overdue.setdefault(process.proc, set())
        for running in row.running:
            age_s = now - running.since_ns / 1e9
            if age_s > patience_s(running, limits) and running.since_ns not in told:
                told.add(running.since_ns)
                self._tell(events.RequestOverdue(process.proc, running.method, running.path, age_s))

    def _row(self, process: Process) -> Row | None:
        board = self._performer.scoreboards.get(process.site)
        if board is None or process.slot is None:
            return None
        return board.row(process.slot, process.pid)

    def _rows(self, site: SiteName) -> Iterator[tuple[Process, Row]]:
        for process in self._performer.roster.values():
            if process.site == site and (row := self._row(process)):
                yield process, row

    def _waiting(self, addresses: tuple[Address, ...]) -> int:
        """How many connections no worker has accepted; a listener that is not bound has none."""
        number = 0
        for address in addresses:
            with suppress(KeyError):
                number += queues.waiting(self._performer.listeners.socket(address))
        return number

    def _rows_by_site(self) -> dict[SiteName, list[tuple[Process, Row]]]:
        """The rows of all workers, in one walk: a thousand sites that sleep cost nothing."""
        rows: dict[SiteName, list[tuple[Process, Row]]] = {}
        for process in self._performer.roster.values():
            if row := self._row(process):
                rows.setdefault(process.site, []).append((process, row))
        return rows

    def complete(self, site: SiteSnapshot, now: float) -> SiteSnapshot:
        """The core's snapshot of a site with every figure filled in and its times as wall-clock time."""
        wall_offset = time.time() - now
        name = SiteName(site.name)
        found = {process.slot: (process, row) for process, row in self._rows(name)}
        workers = tuple(self._worker(worker, found, now, wall_offset) for worker in site.workers)
        templates = tuple(replace(template, pss_bytes=self._pss(template.pid)) for template in site.templates)
        figures = self._sites.get(name) or SiteSamples()
        totals = figures.totals([row for _, row in found.values()])
        classes = totals.classes
        return replace(
            site,
            requests=totals.requests,
            requests_per_s=round(figures.requests_per_s(), 1),
            latency_ms=figures.latency(),
            status=(classes[1], classes[2], classes[3], classes[4]),
            memory_bytes=sum(worker.pss_bytes for worker in workers)
            + sum(template.pss_bytes for template in templates),
            cpu_percent=round(sum(worker.cpu_percent for worker in workers), 1),
            last_reload=_on_the_wall(site.last_reload, wall_offset),
            queue=self._queue(name),
            workers=workers,
            templates=templates,
        )

    def _queue(self, site: SiteName) -> QueueSnapshot:
        found = self._performer.router.figures(site)
        return QueueSnapshot(found.queued, found.waited, round(found.waited_s, 3), found.turned_away)

    def totals(self, site: SiteName) -> tuple[Totals, float]:
        """What a site has done since it is known, workers that are gone counted on; and its processor time (s).

        Neither ever gets less while the site is there: what is measured of a process is added for good as
        soon as it is gone.
        """
        figures = self._sites.get(site) or SiteSamples()
        totals = figures.totals([row for _, row in self._rows(site)])
        pids = [
            each.pid for each in self._performer.roster.values() if each.site == site and each.pid is not None
        ]
        return totals, figures.retired_cpu_s + sum(self._meter.measure(pid).cpu_s for pid in pids)

    def measure(self, pid: int) -> Measured:
        """What the kernel says of a process of ours."""
        return self._meter.measure(Pid(pid))

    def _pss(self, pid: int | None) -> int:
        return 0 if pid is None else self._meter.measure(Pid(pid)).pss_bytes

    def _worker(
        self,
        worker: WorkerSnapshot,
        found: dict[int | None, tuple[Process, Row]],
        now: float,
        wall_offset: float,
    ) -> WorkerSnapshot:
        worker = replace(worker, started_at=worker.started_at + wall_offset)
        process, row = found.get(worker.slot, (None, None))
        if process is None or row is None or process.pid != worker.pid or process.pid is None:
            return worker
        measured = self._meter.measure(process.pid)
        state = worker.state
        if state is WorkerState.IDLE and row.running:
            state = WorkerState.BUSY
        return replace(
            worker,
            state=state,
            requests=row.requests,
            threads=row.threads,
            busy=len(row.running),
            connections=row.connections,
            rss_bytes=measured.rss_bytes,
            pss_bytes=measured.pss_bytes,
            cpu_percent=round(measured.cpu_percent, 1),
            current=tuple(
                CurrentRequest(running.method, running.path, round(max(0.0, now - running.since_ns / 1e9), 3))
                for running in row.running
            ),
        )


def to_next_look_s(wall_s: float) -> float:
    """How long to wait for the next look: to a full second of the clock on the wall, so each second has its sample.

    A timer that has gone off a little early is not followed by another look at once: nearly no time would lie
    between them, and what happens in it would be no rate.
    """
    wait_s = SAMPLE_S - wall_s % SAMPLE_S
    return wait_s if wait_s > SAMPLE_S / 2 else wait_s + SAMPLE_S


def patience_s(running: Running, limits: Limits) -> float:
    """How long a request may run: ``request_timeout``, or as long as it has asked for, ``max_timeout`` at most.

    Where it is first asked to end by itself, at ``soft_timeout``, the time for that comes on top.
    """
    asked_s = min(max(0, running.until_ns - running.since_ns) / 1e9, limits.max_timeout_s)
    if asked_s and limits.soft_timeout_s:
        asked_s += limits.request_timeout_s - limits.soft_timeout_s
    return max(limits.request_timeout_s, asked_s)


def _on_the_wall(report: ReloadReport | None, offset: float) -> ReloadReport | None:
    return None if report is None else replace(report, started_at=report.started_at + offset)
