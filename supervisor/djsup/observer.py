"""The observer: what is measured, beside what the core decides.

Looks at the scoreboards once a second (a request that runs too long becomes an event) and completes the
core's snapshot with figures when somebody asks. Never decides anything.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from djsup.core import events
from djsup.core.model import Pid, SiteName
from djsup.core.snapshot import CurrentRequest, ReloadReport, SiteSnapshot, WorkerSnapshot, WorkerState
from djsup.shell.samples import Meter, SiteSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djsup.core.events import Event
    from djsup.core.model import Limits, ProcId, Settings
    from djsup.performer import Performer, Process
    from djsup_worker.scoreboard import Row, Running

SAMPLE_S = 1.0
"""How often the scoreboards are looked at."""
MEMORY_EVERY = 5
"""Memory of the workers that have a limit is measured every so many looks."""


class Observer:
    """Looks at the workers that the performer has running."""

    def __init__(self, performer: Performer, tell: Callable[[Event], None]) -> None:
        self._performer = performer
        self._tell = tell
        self._sites: dict[SiteName, SiteSamples] = {}
        self._overdue: dict[ProcId, set[int]] = {}
        self._meter = Meter()
        self._looks = 0
        performer.retired = self.retire

    def retire(self, process: Process) -> None:
        """A process is gone: count on from what it had counted."""
        if row := self._row(process):
            self._sites.setdefault(process.site, SiteSamples()).retire(row)
        self._overdue.pop(process.proc, None)
        if process.pid is not None:
            self._meter.forget(process.pid)

    def look(self, settings: Settings) -> None:
        """One look at every scoreboard: figures are added, what is over its limit is told."""
        now = time.monotonic()
        self._looks += 1
        for site in settings.sites:
            found = list(self._rows(site.name))
            self._sites.setdefault(site.name, SiteSamples()).add(now, [row for _, row in found])
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
            if gone not in self._performer.scoreboards:
                del self._sites[gone]

    def _private(self, process: Process, limit: int) -> int:
        if not limit or process.pid is None or self._looks % MEMORY_EVERY:
            return 0
        return self._meter.measure(process.pid).private_bytes

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
            workers=workers,
            templates=templates,
        )

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
