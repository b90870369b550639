"""What to do, as the core tells it to the shell: imperative, frozen, no behaviour.

The shell performs each in order and answers with events, never with return values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djsup.core.model import (
        Address,
        Generation,
        Limits,
        ProcId,
        ProgramSettings,
        SiteName,
        SiteSettings,
        Slot,
    )


@dataclass(frozen=True, slots=True)
class BindListener:
    """Bind and listen, for a site or for the dashboard (``Settings.dashboard.listen``).

    Answered by ListenerBound or ListenerFailed; bound already: ListenerBound at once.
    """

    address: Address


@dataclass(frozen=True, slots=True)
class CloseListener:
    """Close a listener that no site names any more; removes the file of a Unix socket."""

    address: Address


@dataclass(frozen=True, slots=True)
class WatchListener:
    """Tell once, by ConnectionWaiting, when a connection waits on a bound listener; accept nothing."""

    address: Address


@dataclass(frozen=True, slots=True)
class UnwatchListener:
    """Watch a listener no longer; it is not watched (any more): nothing."""

    address: Address


@dataclass(frozen=True, slots=True)
class CloseRoute:
    """Have the router answer 503 at once for a site, and to whoever waits for it; until OpenRoute."""

    site: SiteName


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """Have the router pass on a site's requests again."""

    site: SiteName


@dataclass(frozen=True, slots=True)
class StartTemplate:
    """Run the site's interpreter and load the application. Opens the generation's handover socket."""

    proc: ProcId
    generation: Generation
    site: SiteSettings


@dataclass(frozen=True, slots=True)
class ForkWorker:
    """Let a loaded template fork one worker."""

    proc: ProcId
    template: ProcId
    site: SiteName
    generation: Generation
    slot: Slot


@dataclass(frozen=True, slots=True)
class BootWorker:
    """Run the site's interpreter as a worker that loads the application by itself."""

    proc: ProcId
    generation: Generation
    slot: Slot
    site: SiteSettings


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Tell a worker to stop accepting, finish what runs, hand over what is idle, and exit.

    ``handover_to`` is the generation (of the same site) that gets the idle connections;
    None: there is none, they are closed when idle.
    """

    proc: ProcId
    handover_to: Generation | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class TellLimits:
    """Tell a running worker its new limits."""

    proc: ProcId
    limits: Limits


@dataclass(frozen=True, slots=True)
class KillProcess:
    """Send a signal (its name, as ``SIGTERM``) to a process asked for earlier; gone already: nothing.

    A process whose pid is not known yet gets the signal as soon as it is known. SIGKILL to a program
    is for all processes of its group.
    """

    proc: ProcId
    signal: str


@dataclass(frozen=True, slots=True)
class DumpStacks:
    """Have a worker write the stacks of all its threads to its standard error.

    ``notice`` is published with them as its details, as soon as they are there, and soon in any case.
    """

    proc: ProcId
    notice: Publish


@dataclass(frozen=True, slots=True)
class ForgetGeneration:
    """No process of this generation is left and none will come: close its handover socket."""

    site: SiteName
    generation: Generation


@dataclass(frozen=True, slots=True)
class ForgetSite:
    """The site is gone from the configuration and all its processes too: free its scoreboard."""

    site: SiteName


class Level(Enum):
    """How much a notice matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class NoticeKind(Enum):
    """What a notice is about; the value stands in logs, events and their filters."""

    LISTENER_BOUND = "listener-bound"
    LISTENER_FAILED = "listener-failed"
    LISTENER_CLOSED = "listener-closed"
    SITE_ADDED = "site-added"
    SITE_REMOVED = "site-removed"
    SITE_ADOPTED = "site-adopted"
    SITE_SERVING = "site-serving"
    SITE_STOPPED = "site-stopped"
    STOP_ASKED = "stop-asked"
    START_ASKED = "start-asked"
    SITE_SLEEPS = "site-sleeps"
    SITE_COLD = "site-cold"
    SITE_WAKES = "site-wakes"
    LOAD_FAILED = "load-failed"
    NO_TEMPLATE = "no-template"
    TEMPLATE_DIED = "template-died"
    WORKER_READY = "worker-ready"
    WORKER_FAILED = "worker-failed"
    WORKER_DIED = "worker-died"
    WORKER_DRAINED = "worker-drained"
    WORKER_KILLED = "worker-killed"
    WORKER_RECYCLED = "worker-recycled"
    SPAWN_FAILED = "spawn-failed"
    REQUEST_OVERDUE = "request-overdue"
    RELOAD_STARTED = "reload-started"
    RELOAD_DONE = "reload-done"
    RELOAD_ROLLED_BACK = "reload-rolled-back"
    RELOAD_SUPERSEDED = "reload-superseded"
    CANARY_STARTED = "canary-started"
    CANARY_EXTENDED = "canary-extended"
    CANARY_PASSED = "canary-passed"
    HOOK_STARTED = "hook-started"
    HOOK_ENDED = "hook-ended"
    HOOK_FAILED = "hook-failed"
    ROLLBACK_REFUSED = "rollback-refused"
    SETTINGS_CHANGED = "settings-changed"
    RESTART_ASKED = "restart-asked"
    SCALED = "scaled"
    PROGRAM_STARTED = "program-started"
    PROGRAM_DIED = "program-died"
    PROGRAM_STOPPED = "program-stopped"
    PROGRAM_FINISHED = "program-finished"
    PROGRAM_SKIPPED = "program-skipped"
    DASHBOARD_STARTED = "dashboard-started"
    DASHBOARD_DIED = "dashboard-died"
    ROUTER_STARTED = "router-started"
    ROUTER_DIED = "router-died"
    KEEPER_STARTED = "keeper-started"
    KEEPER_DIED = "keeper-died"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Publish:
    """Say something to the log, the history and the dashboard.

    ``text`` is one line for people that names the site and the thing; ``details`` is what more
    there is to read (a traceback, the last lines of standard error), possibly empty.
    """

    kind: NoticeKind
    text: str
    site: SiteName | None = None
    level: Level = Level.INFO
    generation: Generation | None = None
    proc: ProcId | None = None
    by: str = ""
    details: str = ""


@dataclass(frozen=True, slots=True)
class StartProgram:
    """Run a program of a site, as a generation's settings say for its directory, interpreter and environment."""

    proc: ProcId
    site: SiteSettings
    generation: Generation
    program: ProgramSettings
    instance: int


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run a command of a site before or after a reload, as a program is run. Its output comes with its end."""

    proc: ProcId
    site: SiteSettings
    generation: Generation
    """The one that is to serve, or does."""
    name: str
    """Whether it is ``before_reload`` or ``after_reload``."""
    command: str


@dataclass(frozen=True, slots=True)
class StartDashboard:
    """Run the dashboard's process on its listener, which is bound."""

    proc: ProcId


@dataclass(frozen=True, slots=True)
class StartRouter:
    """Run the router's process on the shared addresses that are bound."""

    proc: ProcId


@dataclass(frozen=True, slots=True)
class StartKeeper:
    """Run the keeper's process, and give it what the programs need that run already."""

    proc: ProcId


@dataclass(frozen=True, slots=True)
class Quit:
    """Everything asked for has ended: the daemon may exit."""


Action = (
    BindListener
    | CloseListener
    | WatchListener
    | UnwatchListener
    | CloseRoute
    | OpenRoute
    | StartTemplate
    | ForkWorker
    | BootWorker
    | DrainWorker
    | TellLimits
    | KillProcess
    | DumpStacks
    | ForgetGeneration
    | ForgetSite
    | Publish
    | StartProgram
    | RunHook
    | StartDashboard
    | StartRouter
    | StartKeeper
    | Quit
)
