"""What happened, as the shell tells it to the core: past tense, frozen, no behaviour.

Every process that the core asks for (StartTemplate, ForkWorker, BootWorker, StartProgram, StartDashboard,
StartRouter, StartKeeper) ends in exactly one ProcessExited or SpawnFailed, whatever else is told of it before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djsup.core.estate import Estate
    from djsup.core.memory import ProcessLeft
    from djsup.core.model import Address, Generation, Pid, ProcId, Settings, SiteName


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. One of ``status`` and ``signal`` is set; neither, when it can't be known."""

    status: int | None = None
    signal: str | None = None
    """The signal's name, as ``SIGKILL``."""
    core_dumped: bool = False
    out_of_memory: bool = False
    stderr: tuple[str, ...] = ()
    """The last lines of its standard error, at most 50; of a scheduled command those of its output too."""


@dataclass(frozen=True, slots=True)
class ListenerBound:
    """A listener asked for is bound and listening."""

    address: Address


@dataclass(frozen=True, slots=True)
class ListenerFailed:
    """A listener asked for could not be bound; ``error`` says why, for people."""

    address: Address
    error: str


@dataclass(frozen=True, slots=True)
class ConnectionWaiting:
    """A connection waits on a listener that was watched; it is not watched any more."""

    address: Address


@dataclass(frozen=True, slots=True)
class RequestWaiting:
    """A request waits at a shared address for a site that has no worker."""

    site: SiteName


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A process asked for exists: the kernel vouches for its pid."""

    proc: ProcId
    pid: Pid


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """A process asked for never came to be (fork or exec failed, or its template died first)."""

    proc: ProcId
    error: str


@dataclass(frozen=True, slots=True)
class TemplateLoaded:
    """A template imported its application. ``unsafe`` names what makes forking it unsafe, empty: nothing."""

    proc: ProcId
    boot_s: float
    python: str = ""
    django: str = ""
    unsafe: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateFailed:
    """A template could not import its application; it exits by itself. ``error`` is one line."""

    proc: ProcId
    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker passed its health question (if any) and accepts connections."""

    proc: ProcId


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """A worker could not boot or is not healthy; it exits by itself. ``error`` is one line."""

    proc: ProcId
    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """A process is gone and reaped."""

    proc: ProcId
    exit: Exit


@dataclass(frozen=True, slots=True)
class SitesAdopted:
    """An earlier daemon was killed, or has replaced its own program, and this is left of its sites.

    Told once, before the first settings.

    The shell holds what belongs to them: the listeners of what serves, scoreboards, handover sockets.
    Their processes keep the names that the earlier daemon gave them.
    """

    sites: tuple[Estate, ...]
    replaced: Replaced | None = None
    """What belongs to no site, where the program was replaced; the sites' estates have their memory then."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What the program that ran before in this process knew, beside its sites."""

    settings: Settings
    """Those in force."""
    last_proc: int
    dashboard: ProcessLeft
    dashboard_anew: bool
    """The dashboard's program is another one, too, and so is the keeper's."""
    keeper: ProcessLeft | None = None


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """A new valid configuration was read. ``reload`` names the sites whose code is loaded anew besides.

    The first one after the start brings the fleet to life.
    """

    settings: Settings
    by: str
    reload: frozenset[SiteName] = frozenset()
    canary_s: float | None = None
    """For how many seconds new code is tried in these reloads; 0: it is not; None: as the settings say."""


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """Somebody wants a site's code loaded anew, settings as they are."""

    site: SiteName
    by: str
    canary_s: float | None = None
    """As in SettingsChanged."""


@dataclass(frozen=True, slots=True)
class RestartAsked:
    """Somebody wants a site stopped and started again."""

    site: SiteName
    by: str


@dataclass(frozen=True, slots=True)
class SiteStopAsked:
    """Somebody wants one site to end, drained or at once, and to stay so until somebody starts it."""

    site: SiteName
    by: str
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class SiteStartAsked:
    """Somebody wants a site to serve again that somebody has stopped."""

    site: SiteName
    by: str


@dataclass(frozen=True, slots=True)
class RollbackAsked:
    """Somebody wants the code back that served before."""

    site: SiteName
    by: str


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """Somebody wants another number of workers, until the next change of the configuration.

    ``workers`` is absolute when ``relative`` is False, else added to the present number.
    """

    site: SiteName
    workers: int
    by: str
    relative: bool = False


@dataclass(frozen=True, slots=True)
class RunAsked:
    """The time of a scheduled command of this site has come, or somebody wants it run now."""

    site: SiteName
    program: str
    by: str


@dataclass(frozen=True, slots=True)
class ProgramSaid:
    """What a program said of itself by sd_notify(3); several words at once are one event."""

    proc: ProcId
    ready: bool = False
    alive: bool = False
    status: str | None = None
    """One line for people; None: nothing new."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants everything to end: drained, or at once when ``at_once`` is True."""

    by: str
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class RequestOverdue:
    """A request of this worker has run longer than ``request_timeout``."""

    proc: ProcId
    method: str
    path: str
    age_s: float


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """A worker's private memory and its count of requests, as measured."""

    proc: ProcId
    private_bytes: int
    requests: int


@dataclass(frozen=True, slots=True)
class LoadSampled:
    """How busy the workers of a site that may scale are, as measured each second."""

    site: SiteName
    busy_threads: int
    """Threads of serving workers that run a request."""
    waiting: int
    """Connections that no worker has accepted."""
    cores: float = 0.0
    """What its workers used since the last sample, in cores."""
    connections: int = 0
    """Connections that workers have open, idle ones too."""
    requests: int = 0
    """Answers so far; another number than before says that it is used."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the workers of one generation have answered since the last sample."""

    generation: Generation
    requests: int
    failed: int
    """Answers 5xx."""
    latency: tuple[tuple[float, int], ...] = ()
    """How long they took, in seconds, and how many took that long."""


@dataclass(frozen=True, slots=True)
class GenerationsSampled:
    """What the generations of a site have answered, as measured each second while more than one serves."""

    site: SiteName
    answers: tuple[Answers, ...]


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The moment that ``Fleet.deadline`` named has come."""


Event = (
    ListenerBound
    | ListenerFailed
    | ConnectionWaiting
    | RequestWaiting
    | ProcessStarted
    | SpawnFailed
    | TemplateLoaded
    | TemplateFailed
    | WorkerReady
    | WorkerFailed
    | ProcessExited
    | SitesAdopted
    | SettingsChanged
    | ReloadAsked
    | RestartAsked
    | SiteStopAsked
    | SiteStartAsked
    | RollbackAsked
    | ScaleAsked
    | RunAsked
    | ProgramSaid
    | StopAsked
    | RequestOverdue
    | MemorySampled
    | LoadSampled
    | GenerationsSampled
    | DeadlinePassed
)
