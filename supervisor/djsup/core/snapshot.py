"""The frozen picture of the fleet that the command line and the dashboard show.

The core fills in what it decides (states, generations, errors); the shell fills in what it
measures (requests, latency, memory). ``to_json`` gives the shape of ``djsup status --json``,
``from_json`` reads it back. Times are seconds since the epoch in the shell's filled-in copy
and appear in JSON as ISO 8601 in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class SiteState(Enum):
    """How a site is, as an operator would put it."""

    STARTING = "starting"
    """Its first generation is loading."""
    SERVING = "serving"
    """As many workers serve as were asked for."""
    DEGRADED = "degraded"
    """Some worker serves, but fewer than were asked for."""
    RELOADING = "reloading"
    """A new generation is being built or is taking over; the old one serves."""
    SLEEPING = "sleeping"
    """Scaled to zero; a connection wakes it."""
    BACKING_OFF = "backing-off"
    """It served before, nothing serves now, and the next try has its time."""
    FAILED = "failed"
    """It has never loaded; the next try has its time."""
    STOPPING = "stopping"
    """Told to stop, requests are being finished."""
    STOPPED = "stopped"
    """No process of it is left."""


class WorkerState(Enum):
    """How a worker is, as an operator would put it."""

    BOOTING = "booting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    OVERDUE = "overdue"
    GONE = "gone"


class ReloadResult(Enum):
    """How the last reload of a site went."""

    RUNNING = "running"
    DONE = "done"
    ROLLED_BACK = "rolled-back"


@dataclass(frozen=True, slots=True)
class CurrentRequest:
    """A request that runs now."""

    method: str
    path: str
    age_s: float


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One worker."""

    slot: int
    pid: int | None
    generation: int
    state: WorkerState
    started_at: float
    uptime_s: float
    requests: int = 0
    threads: int = 0
    busy: int = 0
    connections: int = 0
    rss_bytes: int = 0
    pss_bytes: int = 0
    cpu_percent: float = 0.0
    current: tuple[CurrentRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateSnapshot:
    """One template process."""

    pid: int | None
    generation: int
    state: str
    pss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ProgramSnapshot:
    """One instance of a site's program."""

    name: str
    instance: int
    pid: int | None
    state: str
    uptime_s: float


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """The last reload of a site: what it was, how it went, and why not."""

    generation: int
    result: ReloadResult
    started_at: float
    duration_s: float
    by: str
    error: str | None = None
    """One line, None unless rolled back."""
    details: str = ""
    """The traceback or the answer of the health path, when rolled back."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the last minute's requests in milliseconds; None when there was none."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class SiteSnapshot:
    """One site."""

    name: str
    state: SiteState
    generation: int
    """The generation that serves; 0 before the first."""
    listen: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    error: str | None = None
    """Why it does not serve as asked, None when it does."""
    notes: tuple[str, ...] = ()
    """What an operator should know though it serves, as why it runs without a template."""
    next_try_s: float | None = None
    """Seconds until the next try, while it backs off."""
    workers_asked: int = 0
    python: str = ""
    django: str = ""
    requests: int = 0
    requests_per_s: float = 0.0
    latency_ms: Latency = Latency()
    status: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Answers so far by class: 2xx, 3xx, 4xx, 5xx."""
    memory_bytes: int = 0
    """Sum of PSS over workers and templates."""
    cpu_percent: float = 0.0
    last_reload: ReloadReport | None = None
    workers: tuple[WorkerSnapshot, ...] = ()
    templates: tuple[TemplateSnapshot, ...] = ()
    programs: tuple[ProgramSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonSnapshot:
    """The daemon itself."""

    pid: int
    version: str
    started_at: float
    uptime_s: float
    config: str
    dashboard: str | None
    """The dashboard's URL, None when it is switched off."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything."""

    daemon: DaemonSnapshot
    sites: tuple[SiteSnapshot, ...]
