"""The nouns of the pure core: settings as frozen values, names, numbers and addresses.

Knows nothing of TOML (``djsup.config`` makes these values) and nothing of processes.
Durations are floats in seconds and end in ``_s``; sizes are integers in bytes and end
in ``_bytes``; times are readings of the monotonic clock, passed in by the shell.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NewType

SiteName = NewType("SiteName", str)
Pid = NewType("Pid", int)
Generation = NewType("Generation", int)
"""One load of a site's code and settings, numbered from 1 within its site."""
ProcId = NewType("ProcId", int)
"""The core's own name for a process it asked for; given out before a pid exists, never used twice."""
Slot = NewType("Slot", int)
"""A worker's row in its site's scoreboard, from 0; reused when its worker is gone."""

ROUTER = SiteName("(router)")
"""Among the owners of processes and listeners: no site, but the router of shared addresses. No table can have this name."""
KEEPER = SiteName("(keeper)")
"""As above: the keeper of programs, should the daemon die."""
DASHBOARD = SiteName("(dashboard)")
"""As above: the dashboard."""

SLOTS = 128
"""Rows in a site's scoreboard, and so the most workers that a site can have at one time."""


class AddressKind(Enum):
    """What an address names."""

    TCP = "tcp"
    """A host and a port, IPv4 or IPv6."""
    UNIX = "unix"
    """A Unix socket's path."""
    FD = "fd"
    """A socket handed over by whoever started the daemon, by name."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a listener listens. ``str()`` gives the form that the configuration uses."""

    kind: AddressKind = field(compare=False)
    host: str
    """Host for TCP (no brackets), path for a Unix socket, name for FD."""
    port: int = 0

    def __str__(self) -> str:
        if self.kind is not AddressKind.TCP:
            return f"{self.kind.value}:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Preload(Enum):
    """Whether a site's workers are forked from a template."""

    AUTO = "auto"
    """A template, unless it is not safe to fork."""
    ALWAYS = "true"
    """A template, even where it does not look safe."""
    NEVER = "false"
    """Every worker boots by itself."""


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """How many workers a site is promised; ``least == most`` means a fixed number."""

    least: int
    most: int

    @property
    def scales(self) -> bool:
        """Whether the load decides."""
        return self.least < self.most


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """How a site follows its load, where ``WorkerCount`` leaves it room."""

    down_after_s: float = 60.0
    """For how long fewer workers must have been enough before some go."""
    sleep_after_s: float = 600.0
    """After how long without a request or a connection a site with ``least == 0`` sleeps."""
    hibernate_after_s: float = 3600.0
    """How long the template of a site that sleeps is kept."""
    start_asleep: bool = False
    """It begins cold; else it is loaded at the start, and sleeps later."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a site's requests and workers may take. All can be told to running workers."""

    request_timeout_s: float = 30.0
    soft_timeout_s: float = 0.0
    max_timeout_s: float = 3600.0
    boot_timeout_s: float = 60.0
    drain_timeout_s: float = 30.0
    stable_after_s: float = 10.0
    max_requests: int = 0
    max_memory_bytes: int = 0
    max_lifetime_s: float = 0.0
    max_body_bytes: int = 100 * 1024 * 1024
    max_header_bytes: int = 32 * 1024
    keepalive_s: float = 15.0
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    write_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Health:
    """What a new worker asks itself before it takes traffic; no path, no question."""

    path: str | None = None
    expect: int = 200
    host: str | None = None
    """The Host header of the question; default: the site's first name, else localhost."""


@dataclass(frozen=True, slots=True)
class Canary:
    """How long new code takes a share of real traffic before it takes all of it."""

    workers: int = 1
    seconds: float = 10.0
    max_error_rate: float = 0.02
    """How much larger the share of failed answers may be than the old code's."""
    max_slowdown: float = 2.0
    """By which factor its latency may be above the old code's; 0: latency is not judged."""
    min_requests: int = 20
    """Fewer are too few to judge."""


@dataclass(frozen=True, slots=True)
class ReloadPolicy:
    """How one generation takes over from another."""

    surge: int = 1
    keep_previous_s: float = 60.0
    canary: Canary | None = None
    before: str | None = None
    """A command that has to end well before new code is loaded, its words as a shell splits them."""
    after: str | None = None
    """A command that is run when new code has taken over."""
    hook_timeout_s: float = 300.0
    """How long either may take."""

    def trying_for(self, seconds: float | None) -> Canary | None:
        """The trial when somebody asks for one of so many seconds (0: none; None: as the settings say)."""
        if seconds is None:
            return self.canary
        return replace(self.canary or Canary(), seconds=seconds) if seconds else None


class ProgramReload(Enum):
    """What a program does when another generation of its site has taken over."""

    RESTART = "restart"
    """It is told to stop; when it has gone, it is started anew."""
    HUP = "hup"
    """It gets SIGHUP."""
    NONE = "none"
    """It is left alone."""


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """A helper process of a site: kept running, or run when its time has come."""

    name: str
    command: str
    """Words as a shell splits them; no shell runs it."""
    instances: int = 1
    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    stop_signal: str = "TERM"
    stop_timeout_s: float = 10.0
    reload: ProgramReload = ProgramReload.RESTART
    notify: bool = False
    """It says by sd_notify(3) that it is ready."""
    start_timeout_s: float = 60.0
    watchdog_s: float = 0.0
    """It says by sd_notify(3) that it is alive, more often than this; 0: it need not."""
    schedule: str | None = None
    """When it is run, as crontab(5) writes it; None: it is kept running."""
    timeout_s: float = 0.0
    """How long a scheduled run may take; 0: for ever."""


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """Limits for all processes of a site together; None: no limit."""

    memory_max: int | None = None
    """Bytes; above, the kernel kills one of its processes."""
    memory_high: int | None = None
    """Bytes; above, the kernel slows it down and takes memory back."""
    cpu_max: float | None = None
    """Processors: 1.5 is one and a half."""
    pids_max: int | None = None
    """Processes and threads."""


@dataclass(frozen=True, slots=True)
class Isolation:
    """What keeps a site's processes from the rest of the machine, beyond whom they run as."""

    groups: tuple[str, ...] = ()
    """Groups beside those that the user has."""
    umask: int = 0o022
    nice: int = 0
    cpu_affinity: tuple[int, ...] = ()
    """Numbers of the processors that it may use; empty: all."""
    rlimits: tuple[tuple[str, int], ...] = ()
    """Names as in setrlimit(2), small and without RLIMIT_; -1: no limit."""
    no_new_privs: bool = False
    private_tmp: bool = False
    read_only: tuple[str, ...] = ()
    """Absolute paths that it cannot write to, whatever its user may."""
    cgroup: ControlGroup = ControlGroup()


@dataclass(frozen=True, slots=True)
class StaticFolder:
    """A folder whose files the workers serve by themselves."""

    prefix: str
    """What their URLs begin with; it begins and ends with a slash."""
    path: str
    """Absolute path."""
    changes: bool = False
    """Whether its files change while the site runs, as uploads do."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate (its chain behind it) and its key are; absolute paths of PEM files."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What a site needs to speak TLS."""

    listen: tuple[Address, ...]
    """Those of the site's addresses that speak it."""
    certificates: tuple[CertificateFiles, ...]
    """The first is for clients that ask for a name of none."""
    redirect: str = ""
    """The origin that plain http is sent on to, ``{host}`` in it being the host asked for; empty: it is not."""
    hsts: str = ""
    """The value of Strict-Transport-Security; empty: none is sent."""


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """What a site's workers write down of each request, and which id each gets."""

    format: str = "off"
    """``off``, ``json``, or the format as it was written."""
    pieces: tuple[str, ...] = ()
    """A format taken apart: texts and directives in turn."""
    exclude: tuple[str, ...] = ()
    """Paths that are not logged; with a star at the end, all that begin so."""
    request_id: str = "off"
    """``off`` (made when the log has it), ``on`` or ``respond``."""


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """One table ``[sites.NAME]``, every default filled in."""

    name: SiteName
    directory: str
    """Absolute path of the folder that holds manage.py."""
    python: str
    """Absolute path of the interpreter."""
    listen: tuple[Address, ...]
    """All its addresses, those that speak TLS included."""
    trusted_proxies: tuple[str, ...] = ()
    """IP networks, and ``unix`` for peers on a Unix socket."""
    proxy_protocol: bool = False
    wsgi: str | None = None
    """``module:callable``; None: WSGI_APPLICATION of the Django settings."""
    settings: str | None = None
    """DJANGO_SETTINGS_MODULE; None: the one that manage.py names, if there is one."""
    env: tuple[tuple[str, str], ...] = ()
    """Names and values as written, ``env_file`` merged in below ``env``."""
    user: str | None = None
    group: str | None = None
    hosts: tuple[str, ...] = ()
    default: bool = False
    static: tuple[StaticFolder, ...] = ()
    workers: WorkerCount = WorkerCount(1, 1)
    scaling: ScalingPolicy = ScalingPolicy()
    threads: int = 4
    preload: Preload = Preload.AUTO
    limits: Limits = Limits()
    health: Health = Health()
    reload: ReloadPolicy = ReloadPolicy()
    programs: tuple[ProgramSettings, ...] = ()
    access: AccessSettings = AccessSettings()
    isolation: Isolation = Isolation()
    tls: TlsSettings | None = None
    shared: tuple[Address, ...] = ()
    """Addresses that it shares with other sites: a router listens there, and passes requests on."""
    shared_tls: tuple[Address, ...] = ()
    """Those of ``shared`` that speak TLS."""
    mount: str = ""
    """What the paths of its requests begin with, as ``/shop``; empty: it is for every path."""
    queue: int = 1000
    """How many requests from shared addresses may wait for a worker."""
    queue_timeout_s: float = 30.0
    """How long each may."""

    @property
    def tls_listen(self) -> tuple[Address, ...]:
        """Those of its addresses that speak TLS."""
        return self.tls.listen if self.tls is not None else ()


DASHBOARD_USER = "nobody"
"""Whom the dashboard runs as when the daemon is root and the settings name nobody."""


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """Where the dashboard listens, where its tokens are kept, and how a proxy in front of it shows it."""

    listen: Address
    token_file: str
    user: str | None = None
    metrics_public: bool = False
    read_token_file: str | None = None
    """Where the tokens are kept that may look only."""
    hosts: tuple[str, ...] = ()
    """Names that it is reached by beside its address, lower case."""
    prefix: str = ""
    """The path below which a proxy shows it: begins with a slash, ends with none."""
    trusted_proxies: tuple[str, ...] = ()
    """As of a site."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How and where logs are written."""

    format: str = "console"
    directory: str | None = None
    access: str = "combined"
    """For the sites that say nothing else; what it means for each is in its ``SiteSettings.access``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration file, valid, with every default filled in."""

    file: str
    """Absolute path of the file it was read from."""
    runtime_dir: str
    sites: tuple[SiteSettings, ...] = ()
    dashboard: DashboardSettings | None = None
    log: LogSettings = LogSettings()
    orphan_grace_s: float = 60.0
    stop_delay_s: float = 0.0
    """How long health paths say that everything is going to stop, before it does."""
    shared: tuple[Address, ...] = ()
    """The addresses that several sites share."""
    shared_tls: tuple[Address, ...] = ()
    """Those of them that speak TLS."""
    redirects: tuple[tuple[str, str], ...] = ()
    """Hosts on shared addresses, and the origin that each is sent on to."""
    acme_dir: str | None = None
    """The webroot below which certificate authorities' questions on shared addresses are answered; absolute."""

    def site(self, name: SiteName) -> SiteSettings | None:
        """The settings of one site, None when there is no such table."""
        return next((site for site in self.sites if site.name == name), None)
