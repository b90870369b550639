"""The frozen picture of the fleet that the command line and the dashboard show.

The core fills in what it decides (states, generations, errors); the shell fills in what it
measures (requests, latency, memory). ``to_json`` gives the shape of ``djsup status --json`` as
plain dicts and lists, ``from_json`` reads it back. Times are seconds since the epoch in the
shell's filled-in copy and appear in JSON as ISO 8601 in UTC, to the second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


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
    """``starting``, ``running``, ``stopping``, ``backing-off``; ``waiting``: for its schedule."""
    uptime_s: float
    status_text: str = ""
    """What it last said of itself by sd_notify(3)."""
    next_try_s: float | None = None
    """Seconds until the next try, while it backs off."""
    schedule: str | None = None
    next_run_at: float | None = None
    """When its schedule has it run next; the shell knows."""
    runs: int = 0
    """Runs of a scheduled command that have ended."""
    last_well: bool | None = None
    """Whether the last run exited with status 0."""
    last_result: str | None = None
    """How the last run went, in words."""


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
    phase: str = ""
    """How far it has come while it runs, as ``rollout.Phase`` names it; empty: it has ended."""
    canary: str = ""
    """How its trial stands, or has ended; empty: there was none."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the last minute's requests in milliseconds; None when there was none."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """The requests from shared addresses that wait, or had to wait, for a worker of a site."""

    waiting: int = 0
    waited: int = 0
    """Requests that a worker got after they had waited."""
    waited_s: float = 0.0
    """For how long, all together."""
    turned_away: int = 0
    """Requests that were answered 503, because too many waited, or for too long."""


@dataclass(frozen=True, slots=True)
class SiteSnapshot:
    """One site."""

    name: str
    state: SiteState
    generation: int
    """The generation that serves; 0 before the first."""
    listen: tuple[str, ...]
    tls_listen: tuple[str, ...] = ()
    """Those of ``listen`` that speak TLS."""
    shared: tuple[str, ...] = ()
    """Those of ``listen`` that other sites are on, too."""
    mount: str = ""
    queue: QueueSnapshot = QueueSnapshot()
    hosts: tuple[str, ...] = ()
    error: str | None = None
    """Why it does not serve as asked, None when it does."""
    stopped_by: str | None = None
    """Who has stopped this site alone, so that it stays so until somebody starts it; None: nobody."""
    notes: tuple[str, ...] = ()
    """What an operator should know though it serves, as why it runs without a template."""
    next_try_s: float | None = None
    """Seconds until the next try, while it backs off."""
    previous_generation: int = 0
    """The generation that a rollback would bring back at once; 0: none is kept."""
    previous_kept_s: float | None = None
    """For how many seconds it is kept, unless the code changes again."""
    failures_in_row: int = 0
    """Early deaths of workers, or failed loads, in a row: the next try waits the longer for each."""
    workers_asked: int = 0
    """How many are to serve now: the load decides between the two bounds below, or somebody by hand."""
    workers_min: int = 0
    workers_max: int = 0
    workers_why: str = ""
    """What brought the load's number about, as "all 8 threads busy"; empty: nothing has."""
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


# --- to JSON and back ----------------------------------------------------------------------------

STATUS_CLASSES = ("2xx", "3xx", "4xx", "5xx")
"""Names of the classes that ``SiteSnapshot.status`` counts, in its order."""

DAY_S = 86_400
_DAYS_TO_1970 = 719_468
"""Days from 0000-03-01 to 1970-01-01 in the Gregorian calendar counted backwards."""


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """The object of ``djsup status --json``; every value is a JSON value."""
    daemon = asdict(snapshot.daemon)
    daemon["started_at"] = utc_text(snapshot.daemon.started_at)
    return {"daemon": daemon, "sites": [site_to_json(each) for each in snapshot.sites]}


def site_to_json(site: SiteSnapshot) -> dict[str, Any]:
    """One site of ``djsup status --json``."""
    raw = asdict(site)
    raw["state"] = site.state.value
    raw["listen"], raw["hosts"], raw["notes"] = list(site.listen), list(site.hosts), list(site.notes)
    raw["tls_listen"], raw["shared"] = list(site.tls_listen), list(site.shared)
    raw["status"] = dict(zip(STATUS_CLASSES, site.status, strict=True))
    if site.last_reload is not None:
        raw["last_reload"]["result"] = site.last_reload.result.value
        raw["last_reload"]["started_at"] = utc_text(site.last_reload.started_at)
    raw["workers"] = [
        {
            **asdict(each),
            "state": each.state.value,
            "started_at": utc_text(each.started_at),
            "current": [asdict(request) for request in each.current],
        }
        for each in site.workers
    ]
    raw["templates"] = [asdict(each) for each in site.templates]
    raw["programs"] = [
        {**asdict(each), "next_run_at": None if each.next_run_at is None else utc_text(each.next_run_at)}
        for each in site.programs
    ]
    return raw


def from_json(raw: dict[str, Any]) -> Snapshot:
    """Read back what ``to_json`` gave. Unknown keys are an error: both ends are of one version.

    Raises:
        KeyError, TypeError, ValueError: it is no such object.
    """
    daemon = {**raw["daemon"], "started_at": utc_seconds(raw["daemon"]["started_at"])}
    return Snapshot(DaemonSnapshot(**daemon), tuple(site_from_json(each) for each in raw["sites"]))


def site_from_json(raw: dict[str, Any]) -> SiteSnapshot:
    """Read back one site.

    Raises:
        KeyError, TypeError, ValueError: it is no such object.
    """
    last = raw["last_reload"]
    two, three, four, five = (int(raw["status"][name]) for name in STATUS_CLASSES)
    return SiteSnapshot(
        **{
            **raw,
            "state": SiteState(raw["state"]),
            "listen": tuple(raw["listen"]),
            "tls_listen": tuple(raw["tls_listen"]),
            "shared": tuple(raw["shared"]),
            "queue": QueueSnapshot(**raw["queue"]),
            "hosts": tuple(raw["hosts"]),
            "notes": tuple(raw["notes"]),
            "status": (two, three, four, five),
            "latency_ms": Latency(**raw["latency_ms"]),
            "last_reload": None if last is None else _report_from_json(last),
            "workers": tuple(_worker_from_json(each) for each in raw["workers"]),
            "templates": tuple(TemplateSnapshot(**each) for each in raw["templates"]),
            "programs": tuple(_program_from_json(each) for each in raw["programs"]),
        }
    )


def _report_from_json(raw: dict[str, Any]) -> ReloadReport:
    started_at = utc_seconds(raw["started_at"])
    return ReloadReport(**{**raw, "result": ReloadResult(raw["result"]), "started_at": started_at})


def _worker_from_json(raw: dict[str, Any]) -> WorkerSnapshot:
    return WorkerSnapshot(
        **{
            **raw,
            "state": WorkerState(raw["state"]),
            "started_at": utc_seconds(raw["started_at"]),
            "current": tuple(CurrentRequest(**each) for each in raw["current"]),
        }
    )


def _program_from_json(raw: dict[str, Any]) -> ProgramSnapshot:
    text = raw["next_run_at"]
    return ProgramSnapshot(**{**raw, "next_run_at": None if text is None else utc_seconds(text)})


def utc_text(seconds: float) -> str:
    """Seconds since the epoch as ``2026-01-02T03:04:05Z``; a fraction of a second is cut.

    The core imports no clock, and ``datetime`` holds one. The calendar is the algorithm of
    Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", ``civil_from_days``: years begin
    in March, so that the leap day is the last of its year.
    """
    days, rest = divmod(int(seconds // 1), DAY_S)
    era, day_of_era = divmod(days + _DAYS_TO_1970, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = (month_from_march + 2) % 12 + 1
    year = year_of_era + era * 400 + (month <= 2)  # noqa: PLR2004 - January and February end a year
    return f"{year:04}-{month:02}-{day:02}T{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}Z"


def utc_seconds(text: str) -> float:
    """Seconds since the epoch of a text that ``utc_text`` made.

    Raises:
        ValueError: it is no such text.
    """
    date, _, clock = text.removesuffix("Z").partition("T")
    year, month, day = (int(part) for part in date.split("-"))
    hours, minutes, seconds = (int(part) for part in clock.split(":"))
    year -= month <= 2  # noqa: PLR2004 - as above
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return float((days - _DAYS_TO_1970) * DAY_S + hours * 3600 + minutes * 60 + seconds)
