"""Figures for monitoring: what of each site is counted since the daemon began, and what is so now.

Whole numbers and sums that only grow, so that whoever asks at any time can tell rates. Names of sites and words
of fixed lists, never a path or anything else that a visitor can invent. ``djsup_web.metrics`` gives them their names
in Prometheus.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from djsup.core.actions import NoticeKind
from djsup.core.model import SiteName
from djsup.core.snapshot import SiteSnapshot, SiteState, WorkerState
from djsup.shell.samples import DURATION_BOUNDS_S, coarse

if TYPE_CHECKING:
    from djsup.core.snapshot import Snapshot
    from djsup.shell.history import History
    from djsup.shell.samples import Measured, Totals

ANSWERS = frozenset({SiteState.SERVING, SiteState.DEGRADED, SiteState.RELOADING, SiteState.SLEEPING})
"""States in which a request to the site is answered."""
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
RELOADS = {
    "done": NoticeKind.RELOAD_DONE,
    "rolled-back": NoticeKind.RELOAD_ROLLED_BACK,
    "superseded": NoticeKind.RELOAD_SUPERSEDED,
}
ENDS = {
    "died": NoticeKind.WORKER_DIED,
    "killed": NoticeKind.WORKER_KILLED,
    "recycled": NoticeKind.WORKER_RECYCLED,
    "unhealthy": NoticeKind.WORKER_FAILED,
}
"""Why a worker had to be replaced, other than by a reload or fewer workers."""


class Observer(Protocol):
    """What is needed of the observer."""

    def totals(self, site: SiteName) -> tuple[Totals, float]:
        """What a site has done so far, and its processor time in seconds."""

    def measure(self, pid: int) -> Measured:
        """What the kernel says of a process."""


def figures(snapshot: Snapshot, observer: Observer, history: History) -> dict[str, Any]:
    """What the verb ``metrics`` answers."""
    own = observer.measure(os.getpid())
    return {
        "daemon": {
            "version": snapshot.daemon.version,
            "started_at_s": round(snapshot.daemon.started_at, 3),
            "uptime_s": snapshot.daemon.uptime_s,
            "memory_bytes": own.pss_bytes,
            "cpu_s": round(own.cpu_s, 3),
        },
        "duration_bounds_s": list(DURATION_BOUNDS_S),
        "sites": [_site(site, observer, history) for site in snapshot.sites],
    }


def _site(site: SiteSnapshot, observer: Observer, history: History) -> dict[str, Any]:
    totals, cpu_s = observer.totals(SiteName(site.name))
    durations, took_s = coarse(totals.histogram)
    states = Counter(worker.state for worker in site.workers)
    ages = [request.age_s for worker in site.workers for request in worker.current]

    def happened(kind: NoticeKind) -> int:
        return history.counts[site.name, kind.value]

    return {
        "name": site.name,
        "state": site.state.value,
        "answers": site.state in ANSWERS,
        "generation": site.generation,
        "workers_asked": site.workers_asked,
        "workers": {state.value: states[state] for state in WorkerState},
        "threads": sum(worker.threads for worker in site.workers),
        "threads_busy": sum(worker.busy for worker in site.workers),
        "oldest_request_s": max(ages, default=0.0),
        "connections": sum(worker.connections for worker in site.workers),
        "connections_accepted": totals.accepted,
        "queued": site.queue.waiting,
        "queue_waited": site.queue.waited,
        "queue_waited_s": site.queue.waited_s,
        "queue_turned_away": site.queue.turned_away,
        "memory_bytes": site.memory_bytes,
        "cpu_s": round(cpu_s, 3),
        "answers_by_class": dict(zip(CLASSES, totals.classes, strict=True)),
        "requests": totals.requests,
        "durations": durations,
        "took_s": round(took_s, 6),
        "bytes_in": totals.bytes_in,
        "bytes_out": totals.bytes_out,
        "reloads": {result: happened(kind) for result, kind in RELOADS.items()},
        "worker_ends": {reason: happened(kind) for reason, kind in ENDS.items()},
        "requests_overdue": happened(NoticeKind.REQUEST_OVERDUE),
    }
