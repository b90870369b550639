"""The schema of the configuration file: every table and key, described once.

Checking, ``djsup schema`` and the reference documentation all come from here. Defaults are those
of ``djsup.core.model``. What one value may look like is in ``forms.py``; what only several keys
together, or the machine, can tell is in ``settle.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field

from djsup.config.access_format import access_format
from djsup.config.forms import (
    DAY_S,
    HOUR_S,
    KIB,
    MIB,
    TIB,
    address,
    choice,
    duration,
    environment_value,
    https_redirect,
    network,
    number,
    resource_limit,
    size,
    static_folder,
    text,
    whole,
    worker_count,
    yes_no,
)
from djsup.config.program_forms import command_line, cron_schedule
from djsup.core.model import (
    Address,
    AddressKind,
    Canary,
    Health,
    Isolation,
    Limits,
    LogSettings,
    ProgramReload,
    ProgramSettings,
    ReloadPolicy,
    ScalingPolicy,
    Settings,
    SiteName,
    SiteSettings,
    StaticFolder,
    WorkerCount,
)

if TYPE_CHECKING:
    from djsup.config.places import KeyPath

_LIMITS = Limits()
_ISOLATION = Isolation()
_HEALTH = Health()
_RELOAD = ReloadPolicy()
_SCALING = ScalingPolicy()
_CANARY = Canary()
_LOG = LogSettings()
_PROGRAM = ProgramSettings(name="", command="")
_SITE = SiteSettings(name=SiteName(""), directory="", python="", listen=())
_ORPHAN_GRACE_S = Settings(file="", runtime_dir="").orphan_grace_s
_STOP_DELAY_S = Settings(file="", runtime_dir="").stop_delay_s

SITE_NAME = r"[a-z0-9][a-z0-9_-]{0,31}"
PROGRAM_NAME = SITE_NAME
VARIABLE_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
URL_PREFIX = r"/((?!\.{1,2}/)[A-Za-z0-9._~-]+/)*"
RLIMITS = ("as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack")
STOP_SIGNALS = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "KILL")


def _wsgi_hint(value: str) -> str:
    module, _, name = value.rpartition(".")
    return f'write "{module}:{name}"' if module and ":" not in value else ""


Path = Annotated[str, text("a path in quotes")]
UserName = Annotated[str, text("a user's name", r"[A-Za-z_][A-Za-z0-9_.-]*\$?")]
GroupName = Annotated[str, text("a group's name", r"[A-Za-z_][A-Za-z0-9_.-]*\$?")]
SiteKey = Annotated[
    str,
    text(
        'a name of at most 32 characters from a-z, 0-9, "_" and "-" that begins with a letter or digit',
        SITE_NAME,
    ),
]
VariableKey = Annotated[
    str,
    text('a name of letters, digits and "_" that begins with no digit', VARIABLE_NAME),
]
UrlPrefix = Annotated[
    str,
    text(
        'a path that begins and ends with "/", as "/static/", of letters, digits, "-", "_", "." and "~"',
        URL_PREFIX,
    ),
]
Mount = Annotated[
    str,
    text(
        'a path that begins and does not end with "/", as "/shop", of letters, digits, "-", "_", "." and "~"',
        r"(/[A-Za-z0-9._~-]+)+",
    ),
]
HostName = Annotated[str, text('a host name without port, as "www.example.com"', r"[\w-]+(\.[\w-]+)*\.?")]
Origin = Annotated[
    str,
    text(
        'where to send it, without a path, as "https://example.com"',
        r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?",
    ),
]
Environment = dict[VariableKey, Annotated[str, environment_value()]]


class Table(BaseModel):
    """What all tables share: no unknown keys, no conversions, no changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=False)


class LimitsTable(Table):
    """What a site's requests and workers may take."""

    request_timeout: Annotated[float, duration(0.1, 7 * DAY_S)] = Field(
        default=_LIMITS.request_timeout_s,
        description="A request that runs longer: the stacks of its worker are logged, the worker is replaced.",
        examples=[30, "2m"],
    )
    soft_timeout: Annotated[float, duration(0, 7 * DAY_S)] = Field(
        default=_LIMITS.soft_timeout_s,
        description="After this long an exception is raised in the request's thread: the transaction is rolled back, "
        "503 is answered, and the worker lives on; 0: never. Shorter than request_timeout. See "
        "docs/how-to/long-requests.md.",
        examples=[0, "20s"],
    )
    max_timeout: Annotated[float, duration(0, 7 * DAY_S)] = Field(
        default=_LIMITS.max_timeout_s,
        description='The longest that a request may run which asks for more time with environ["djsup.extend_timeout"]; '
        "0: asking has no effect.",
        examples=["1h", 0],
    )
    boot_timeout: Annotated[float, duration(0.1, HOUR_S)] = Field(
        default=_LIMITS.boot_timeout_s,
        description="How long the application may take to be imported and to become healthy.",
        examples=[60, "2m"],
    )
    drain_timeout: Annotated[float, duration(0, DAY_S)] = Field(
        default=_LIMITS.drain_timeout_s,
        description="How long a retiring worker may finish the requests that it has.",
        examples=[30, "5m"],
    )
    stable_after: Annotated[float, duration(0, HOUR_S)] = Field(
        default=_LIMITS.stable_after_s,
        description="A worker that dies younger than this is replaced after a pause that grows; "
        "an older one at once.",
        examples=[10],
    )
    max_requests: Annotated[int, whole(0, 10**9)] = Field(
        default=_LIMITS.max_requests,
        description="A worker is replaced after about so many requests; 0: never.",
        examples=[0, 10000],
    )
    max_memory: Annotated[int, size(0, TIB)] = Field(
        default=_LIMITS.max_memory_bytes,
        description="A worker whose private memory is above this is replaced; 0: never.",
        examples=["512MiB", 0],
    )
    max_lifetime: Annotated[float, duration(0, 365 * DAY_S)] = Field(
        default=_LIMITS.max_lifetime_s,
        description="A worker is replaced after about this long; 0: never.",
        examples=["12h", 0],
    )
    max_body: Annotated[int, size(0, TIB)] = Field(
        default=_LIMITS.max_body_bytes,
        description="The longest request body; a longer one is answered 413.",
        examples=["100MiB"],
    )
    max_header: Annotated[int, size(KIB, MIB)] = Field(
        default=_LIMITS.max_header_bytes,
        description="The longest header section of a request; a longer one is answered 431.",
        examples=["32KiB"],
    )
    keepalive: Annotated[float, duration(0, HOUR_S)] = Field(
        default=_LIMITS.keepalive_s,
        description="How long an idle connection is kept open; 0: it is closed after each answer.",
        examples=[15],
    )
    header_timeout: Annotated[float, duration(0.1, HOUR_S)] = Field(
        default=_LIMITS.header_timeout_s,
        description="How long the whole header section of a request may take to arrive; else 408.",
        examples=[10],
    )
    body_timeout: Annotated[float, duration(0.1, HOUR_S)] = Field(
        default=_LIMITS.body_timeout_s,
        description="How long a request's body may stand still while it arrives, or fall behind 240 bytes a "
        "second; else 408.",
        examples=[30],
    )
    write_timeout: Annotated[float, duration(0.1, HOUR_S)] = Field(
        default=_LIMITS.write_timeout_s,
        description="How long a client may read nothing of its answer, or less than 240 bytes a second, before "
        "it is disconnected.",
        examples=[60],
    )


class HealthTable(Table):
    """What a new worker asks itself before it takes traffic."""

    path: Annotated[str, text('a path that begins with "/"', r"/[!-~]*")] | None = Field(
        default=_HEALTH.path,
        description="The path that is asked; without one nothing is asked.",
        examples=["/healthz"],
    )
    expect: Annotated[int, whole(200, 599)] = Field(
        default=_HEALTH.expect,
        description="The status that a healthy worker answers.",
        examples=[200, 204],
    )
    host: Annotated[str, text("a host name", r"[A-Za-z0-9_.:\[\]-]+")] | None = Field(
        default=_HEALTH.host,
        description="The Host header of the question. Default: the site's first name in hosts, else localhost.",
        examples=["blog.example.com"],
    )


class CanaryTable(Table):
    """A share of real traffic for new code before it takes all of it."""

    workers: Annotated[int, whole(1, 16)] = Field(
        default=_CANARY.workers,
        description="How many workers of the new code take part. They come on top, for none of the old code goes "
        "before the verdict: at most surge.",
        examples=[1],
    )
    seconds: Annotated[float, duration(0.1, DAY_S)] = Field(
        default=_CANARY.seconds,
        description="How long the trial takes. With too few requests to judge it takes as long once more.",
        examples=[10, "2m"],
    )
    max_error_rate: Annotated[float, number(0, 1)] = Field(
        default=_CANARY.max_error_rate,
        description="Rolled back when the share of 5xx answers is above that of the old code by more than this; before "
        "its time is over, when that cannot be chance.",
        examples=[0.02],
    )
    max_slowdown: Annotated[float, number(0, 1000)] = Field(
        default=_CANARY.max_slowdown,
        description="Rolled back when the median or the 95th percentile of its latency is above that of the old code "
        "by more than this factor (and by 10 ms); 0: latency is not judged.",
        examples=[2, 0],
    )
    min_requests: Annotated[int, whole(1, 1_000_000)] = Field(
        default=_CANARY.min_requests,
        description="Fewer requests are too few to judge: then the new code takes over, and the verdict says so.",
        examples=[20],
    )


class ScalingTable(Table):
    """How a site with `workers = { min, max }` follows its load."""

    down_after: Annotated[float, duration(1, DAY_S)] = Field(
        default=_SCALING.down_after_s,
        description="For how long fewer workers must have been enough before some go.",
        examples=[60, "5m"],
    )
    sleep_after: Annotated[float, duration(1, 365 * DAY_S)] = Field(
        default=_SCALING.sleep_after_s,
        description="A site with min = 0 sleeps after so long without a request or an open connection: no worker of "
        "it is left, and the next connection wakes it.",
        examples=["10m", "1h"],
    )
    hibernate_after: Annotated[float, duration(0, 365 * DAY_S)] = Field(
        default=_SCALING.hibernate_after_s,
        description="How long a site that sleeps keeps its template, from which it wakes at once; then it is cold, "
        "and the next connection loads it anew.",
        examples=["1h", 0],
    )
    start_asleep: Annotated[bool, yes_no()] = Field(
        default=_SCALING.start_asleep,
        description="Whether a site with min = 0 begins cold, so that its first connection loads it; false: it is "
        "loaded at the start, which shows that it works, and sleeps later.",
        examples=[True],
    )


class ReloadTable(Table):
    """How new code takes over from old."""

    surge: Annotated[int, whole(1, 8)] = Field(
        default=_RELOAD.surge,
        description="How many workers above the promised number may run during a reload.",
        examples=[1, 2],
    )
    keep_previous: Annotated[float, duration(0, DAY_S)] = Field(
        default=_RELOAD.keep_previous_s,
        description="How long the template of the old code is kept after a reload, ready to come back.",
        examples=[60, "10m"],
    )
    canary: CanaryTable | None = Field(
        default=None,
        description="Try new code on a share of the traffic first; without this table there is no trial.",
        examples=[{"workers": 1, "seconds": 10, "max_error_rate": 0.02}],
    )


class ProgramTable(Table):
    """A helper process of a site: kept running, or run when its time has come."""

    command: Annotated[str, command_line()] = Field(
        description="The command, split into words as a shell does it; no shell runs it. Its name is looked for in the "
        "site's virtualenv first, and it runs in the site's directory.",
        examples=["celery -A blog worker"],
    )
    instances: Annotated[int, whole(0, 64)] = Field(
        default=_PROGRAM.instances,
        description="How many of it run. Each knows its number from 0 as DJSUP_INSTANCE.",
        examples=[1],
    )
    env: Environment = Field(
        default={},
        description="Environment on top of the site's.",
        examples=[{"C_FORCE_ROOT": "1"}],
    )
    user: UserName | None = Field(
        default=None,
        description="The user that it runs as. Default: the site's. Only when started as root.",
        examples=["blog"],
    )
    stop_signal: Annotated[str, choice(*STOP_SIGNALS)] = Field(
        default=_PROGRAM.stop_signal,
        description="The signal that asks it to stop.",
        examples=["TERM"],
    )
    stop_timeout: Annotated[float, duration(0, DAY_S)] = Field(
        default=_PROGRAM.stop_timeout_s,
        description="How long it may take to stop before it is killed, with all that it has started.",
        examples=[10, "5m"],
    )
    reload: Annotated[str, choice(*(each.value for each in ProgramReload))] = Field(
        default=_PROGRAM.reload.value,
        description='What happens to it when a reload of the site is done: "restart" stops it and starts it anew, "hup" '
        'sends SIGHUP, "none" leaves it alone. A reload that is rolled back touches no program.',
        examples=["hup"],
    )
    notify: Annotated[bool, yes_no()] = Field(
        default=_PROGRAM.notify,
        description="It says by sd_notify(3) on NOTIFY_SOCKET that it is ready (READY=1), and is starting until then.",
        examples=[True],
    )
    start_timeout: Annotated[float, duration(1, HOUR_S)] = Field(
        default=_PROGRAM.start_timeout_s,
        description="With notify: how long it may take to say that it is ready.",
        examples=["2m"],
    )
    watchdog: Annotated[float, duration(0, DAY_S)] = Field(
        default=_PROGRAM.watchdog_s,
        description="It says WATCHDOG=1 by sd_notify(3) more often than this, or gets SIGABRT and is started again. "
        "0: it need not.",
        examples=["30s"],
    )
    schedule: Annotated[str, cron_schedule()] | None = Field(
        default=None,
        description="When it is run, as five fields of cron, in the time zone of the daemon (TZ, else that of the "
        "machine). It is not started again when it ends, and never runs twice at a time. Default: it is kept running.",
        examples=["0 3 * * *"],
    )
    timeout: Annotated[float, duration(0, DAY_S)] = Field(
        default=_PROGRAM.timeout_s,
        description="With schedule: how long a run may take before it is stopped. 0: as long as it likes.",
        examples=["1h"],
    )


class CertificateTable(Table):
    """One more certificate of a site, for clients that ask for a name in it."""

    certificate: Path = Field(
        description="The certificate in PEM, those of the authorities in between behind it.",
        examples=["/etc/letsencrypt/live/blog.example.org/fullchain.pem"],
    )
    key: Path = Field(
        description="Its private key in PEM, without a password.",
        examples=["/etc/letsencrypt/live/blog.example.org/privkey.pem"],
    )


class TlsTable(Table):
    """TLS, on addresses of the site's own."""

    listen: list[Annotated[Address, address()]] = Field(
        default=[],
        description="The addresses that speak TLS; listen of the site names those that do not. Default: tls_listen "
        "at the top of the file.",
        examples=[["0.0.0.0:443", "[::]:443"]],
    )
    certificate: Path = Field(
        description="The certificate in PEM, those of the authorities in between behind it. Read by djsup itself, "
        "again when the file changes; the site's user needs no right to it.",
        examples=["/etc/letsencrypt/live/blog.example.com/fullchain.pem"],
    )
    key: Path = Field(
        description="Its private key in PEM, without a password.",
        examples=["/etc/letsencrypt/live/blog.example.com/privkey.pem"],
    )
    certificates: list[CertificateTable] = Field(
        default=[],
        description="More certificates. The name that a client asks for (SNI) decides; one that asks for a name of "
        "none gets the first.",
        examples=[[{"certificate": "org.pem", "key": "org.key"}]],
    )
    redirect: Annotated[bool | str, https_redirect()] = Field(
        default=False,
        description="Whether requests by plain http are sent on to https, with 301 or 308: true keeps their host and "
        "takes the port of the first address in listen. Not /.well-known/acme-challenge/.",
        examples=[True, "https://www.example.com"],
    )
    hsts: (
        Annotated[
            str,
            text(
                'a text as "max-age=31536000; includeSubDomains"',
                r"max-age=[0-9]{1,10}(; ?(includeSubDomains|preload)){0,2}",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Strict-Transport-Security of the answers by https: browsers then ask by https only, for so many "
        "seconds. An application's own goes before it.",
        examples=["max-age=31536000"],
    )


RlimitKey = Annotated[
    str,
    text(
        "a limit of setrlimit(2): " + ", ".join(RLIMITS),
        "|".join(RLIMITS),
    ),
]


class ControlGroupTable(Table):
    """Limits for all processes of a site together: its template, workers and programs (cgroups v2)."""

    memory_max: Annotated[int, size(16 * MIB, TIB)] | None = Field(
        default=None,
        description="Memory that the site may have; above, the kernel kills one of its processes, which is said. "
        "Default: no limit.",
        examples=["2GiB"],
    )
    memory_high: Annotated[int, size(16 * MIB, TIB)] | None = Field(
        default=None,
        description="Memory above which the kernel slows the site down and takes pages back. Default: none.",
        examples=["1536MiB"],
    )
    cpu_max: Annotated[float, number(0.01, 1024)] | None = Field(
        default=None,
        description="Processors that the site may use, as a number of whole ones. Default: no limit.",
        examples=[1.5],
    )
    pids_max: Annotated[int, whole(4, 4_194_304)] | None = Field(
        default=None,
        description="Processes and threads that the site may have. Default: no limit.",
        examples=[200],
    )


class IsolationTable(Table):
    """What keeps a site's processes from the rest of the machine, beyond user and group."""

    groups: list[GroupName] = Field(
        default=[],
        description="Groups that the site runs with beside those of its user. Only when started as root.",
        examples=[["media"]],
    )
    umask: Annotated[str, text('an octal number in quotes, as "027"', r"0?[0-7]{3}")] = Field(
        default=f"{_ISOLATION.umask:03o}",
        description="The rights that files made by the site do not get.",
        examples=["022", "027"],
    )
    nice: Annotated[int, whole(-20, 19)] = Field(
        default=_ISOLATION.nice,
        description="How willingly the site leaves the processor to others. Where it cannot be had, a warning says so.",
        examples=[5],
    )
    cpu_affinity: list[Annotated[int, whole(0, 1023)]] = Field(
        default=[],
        description="The processors that the site may use, by number. Default: all. Where they cannot be had, a "
        "warning says so.",
        examples=[[0, 1]],
    )
    rlimits: dict[RlimitKey, Annotated[int, resource_limit()]] = Field(
        default={},
        description="Resource limits of each of its processes, by their names in setrlimit(2).",
        examples=[{"nofile": 1024, "core": 0, "as": "2GiB", "nproc": 200}],
    )
    no_new_privs: Annotated[bool, yes_no()] = Field(
        default=_ISOLATION.no_new_privs,
        description="Whether no program that the site runs can get more rights than the site has: sudo and other "
        "set-user-ID programs have no effect.",
        examples=[True],
    )
    private_tmp: Annotated[bool, yes_no()] = Field(
        default=_ISOLATION.private_tmp,
        description="Whether the site has a /tmp and /var/tmp of its own, removed with it. Needs root.",
        examples=[True],
    )
    read_only: list[Path] = Field(
        default=[],
        description="Paths that the site cannot write to, whatever its user may. Needs root.",
        examples=[["/srv/blog/project", "/etc"]],
    )
    cgroup: ControlGroupTable | None = Field(
        default=None,
        description="Limits for all processes of the site together. Needs control groups of version 2 that djsup may "
        "use: `djsup systemd` prints a unit that has them.",
        examples=[{"memory_max": "2GiB", "cpu_max": 1.5, "pids_max": 200}],
    )


LoggedPath = Annotated[str, text('a path that begins with "/"', r"/[^?#\s]*")]
RequestId = Annotated[str | bool, choice(True, False, "respond")]


class SiteLogTable(Table):
    """What this site logs otherwise than `[log]` says."""

    access: Annotated[str, access_format()] | None = Field(
        default=None,
        description="As in `[log]`. Default: what is said there.",
        examples=["off", "%h %t %m %U %>s %b %D"],
    )
    access_exclude: list[LoggedPath] | None = Field(
        default=None,
        description="As in `[log]`. Default: what is said there.",
        examples=[["/healthz"]],
    )
    request_id: RequestId | None = Field(
        default=None,
        description="As in `[log]`. Default: what is said there.",
        examples=[True],
    )


class SiteTable(Table):
    """One Django project."""

    directory: Path = Field(
        description="The folder that holds manage.py.",
        examples=["/srv/blog"],
    )
    python: Path | None = Field(
        default=None,
        description="A virtualenv's folder or an interpreter. Default: .venv or venv in directory, "
        "else the Python that runs djsup.",
        examples=["/srv/blog/.venv", "/usr/bin/python3.12"],
    )
    wsgi: (
        Annotated[
            str,
            text('"module:callable", as "blog.wsgi:application"', r"\w+(\.\w+)*:\w+(\.\w+)*", _wsgi_hint),
        ]
        | None
    ) = Field(
        default=None,
        description="The WSGI application. Default: WSGI_APPLICATION of the Django settings.",
        examples=["blog.wsgi:application"],
    )
    settings: Annotated[str, text('a module, as "blog.settings"', r"\w+(\.\w+)*")] | None = Field(
        default=None,
        description="DJANGO_SETTINGS_MODULE. Default: the one that manage.py names.",
        examples=["blog.settings"],
    )
    env: Environment = Field(
        default={},
        description="The site's environment; of the daemon's own it gets only PATH, LANG, TZ and HOME.",
        examples=[{"DEBUG": "0"}],
    )
    env_file: Path | None = Field(
        default=None,
        description="A file of lines KEY=VALUE; what env says goes before it.",
        examples=[".env"],
    )
    user: UserName | None = Field(
        default=None,
        description="The user that the site runs as. Only when started as root.",
        examples=["blog"],
    )
    group: GroupName | None = Field(
        default=None,
        description="The group that the site runs as. Default: the user's. Only when started as root.",
        examples=["www-data"],
    )
    hosts: list[
        Annotated[
            str,
            text(
                'a host name without port, as "example.com" or "*.example.com"',
                r"(\*\.)?[\w-]+(\.[\w-]+)*\.?",
            ),
        ]
    ] = Field(
        default=[],
        description="The host names that the site answers to on an address that it shares.",
        examples=[["blog.example.com", "*.blog.example.com"]],
    )
    mount: Mount | None = Field(
        default=None,
        description="What the paths of the site's requests begin with: the application finds it in SCRIPT_NAME. Sites "
        "of one host on shared addresses are told apart by it. Default: the site is for every path.",
        examples=["/shop"],
    )
    queue: Annotated[int, whole(0, 100_000)] = Field(
        default=_SITE.queue,
        description="How many requests from shared addresses may wait while all workers of the site are busy; "
        "more are answered 503.",
        examples=[1000],
    )
    queue_timeout: Annotated[float, duration(0.1, HOUR_S)] = Field(
        default=_SITE.queue_timeout_s,
        description="How long each of them may wait before it is answered 503.",
        examples=[30, "10s"],
    )
    default: Annotated[bool, yes_no()] = Field(
        default=False,
        description="Whether the site also answers to the names that no site on a shared address has.",
        examples=[True],
    )
    listen: list[Annotated[Address, address()]] | None = Field(
        default=None,
        description="Addresses of its own. Default: the ones at the top of the file.",
        examples=[["127.0.0.1:8001", "unix:/run/blog.sock", "[::]:8001", "fd:web"]],
    )
    trusted_proxies: list[Annotated[str, network()]] | None = Field(
        default=None,
        description="The proxies that are believed when they say who and where their client is; unix: every "
        "peer on a Unix socket. Default: the ones at the top of the file.",
        examples=[["127.0.0.1", "unix"], ["10.0.0.0/8"]],
    )
    proxy_protocol: Annotated[bool, yes_no()] = Field(
        default=False,
        description="Whether connections from trusted_proxies begin with a header of the PROXY protocol "
        "(version 1 or 2); one that does not is closed.",
        examples=[True],
    )
    static: dict[UrlPrefix, Annotated[StaticFolder, static_folder()]] = Field(
        default={},
        description="Folders whose files the workers serve by themselves, by what their URLs begin with. Files "
        "that change while the site runs, as uploads do, need changes = true.",
        examples=[{"/static/": "static_collected", "/media/": {"path": "media", "changes": True}}],
    )
    workers: Annotated[WorkerCount, worker_count()] = Field(
        default=_SITE.workers,
        description='How many processes serve: a number, "auto" (one a core), or as many as are needed '
        "between two bounds.",
        examples=[4, "auto", {"min": 0, "max": 8}],
        json_schema_extra={"default": 1},
    )
    scaling: ScalingTable = Field(
        default=ScalingTable(),
        description="How the number of workers follows the load between these bounds, and when the site sleeps.",
        examples=[{"down_after": "5m", "sleep_after": "1h"}],
        json_schema_extra={"default": {}},
    )
    threads: Annotated[int, whole(1, 64)] = Field(
        default=_SITE.threads,
        description="How many requests one worker runs at a time.",
        examples=[4],
    )
    preload: Annotated[str | bool, choice("auto", True, False)] = Field(
        default="auto",
        description='Whether workers are forked from a template that has loaded the site: "auto" does it '
        "unless it is unsafe.",
        examples=["auto", False],
    )
    limits: LimitsTable = Field(
        default=LimitsTable(),
        description="Timeouts and the greatest sizes.",
        examples=[{"request_timeout": 30, "max_body": "100MiB"}],
        json_schema_extra={"default": {}},
    )
    health: HealthTable = Field(
        default=HealthTable(),
        description="What a new worker asks itself before it takes traffic.",
        examples=[{"path": "/healthz", "expect": 200}],
        json_schema_extra={"default": {}},
    )
    reload: ReloadTable = Field(
        default=ReloadTable(),
        description="How new code takes over from old.",
        examples=[{"surge": 2, "keep_previous": "10m"}],
        json_schema_extra={"default": {}},
    )
    before_reload: Annotated[str, command_line()] | None = Field(
        default=None,
        description="A command that is run before new code is loaded, as the site's user, in its folder and "
        "environment, what its interpreter has beside it first on PATH. Unless it exits with status 0 the reload is "
        "rolled back. Not run before the first start, nor for a rollback.",
        examples=["python manage.py check --deploy --fail-level ERROR"],
    )
    after_reload: Annotated[str, command_line()] | None = Field(
        default=None,
        description="A command that is run in the same way when new code has taken over. If it fails, an event says "
        "so, and nothing is rolled back.",
        examples=["python manage.py clear_cache"],
    )
    hook_timeout: Annotated[float, duration(0.1, DAY_S)] = Field(
        default=_RELOAD.hook_timeout_s,
        description="How long before_reload and after_reload may take each; then all their processes are killed.",
        examples=["5m", 30],
    )
    programs: dict[SiteKey, ProgramTable] = Field(
        default={},
        description="Helper processes that live and die with the site, by name.",
        examples=[{"celery": {"command": "celery -A blog worker"}}],
    )
    tls: TlsTable | None = Field(
        default=None,
        description="TLS, on addresses of the site's own; without this table there is none.",
        examples=[{"listen": ["0.0.0.0:443"], "certificate": "blog.pem", "key": "blog.key"}],
    )
    isolation: IsolationTable = Field(
        default=IsolationTable(),
        description="What keeps the site's processes from the rest of the machine.",
        examples=[{"no_new_privs": True, "private_tmp": True}],
        json_schema_extra={"default": {}},
    )
    log: SiteLogTable = Field(
        default=SiteLogTable(),
        description="What this site logs otherwise than `[log]` says.",
        examples=[{"access": "off"}],
        json_schema_extra={"default": {}},
    )


class DashboardTable(Table):
    """The dashboard in the browser; without this table there is none."""

    listen: Annotated[Address, address(tcp_only=True)] = Field(
        default=Address(kind=AddressKind.TCP, host="127.0.0.1", port=9000),
        description="Where the dashboard listens.",
        examples=["127.0.0.1:9000"],
        json_schema_extra={"default": "127.0.0.1:9000"},
    )
    token_file: Path | None = Field(
        default=None,
        description="The file with the token that lets a browser in; made at the first start, mode 0600. It may have "
        "several, one a line, and is read again when it changes. Default: djsup.token beside the configuration.",
        examples=["/etc/djsup/token"],
    )
    read_token_file: Path | None = Field(
        default=None,
        description="The same for tokens that may look at everything and change nothing. Default: there are none.",
        examples=["/etc/djsup/read-token"],
    )
    hosts: list[HostName] = Field(
        default=[],
        description="The names by which a reverse proxy in front of the dashboard is reached; under any other name than "
        "these and `listen` it does not answer.",
        examples=[["ops.example.com"]],
    )
    prefix: Annotated[str, text('a path that begins with "/", as "/djsup"', r"/|(/[A-Za-z0-9._~-]+)+/?")] = (
        Field(
            default="/",
            description="The path below which a reverse proxy shows the dashboard, whether the proxy cuts it off or not.",
            examples=["/djsup"],
        )
    )
    trusted_proxies: list[Annotated[str, network()]] | None = Field(
        default=None,
        description="The proxies whose X-Forwarded-For and X-Forwarded-Proto the dashboard believes. "
        "Default: `trusted_proxies` of the whole file.",
        examples=[["127.0.0.1"]],
    )
    user: UserName | None = Field(
        default=None,
        description="The user that the dashboard's process runs as. Only when started as root.",
        examples=["nobody"],
    )
    metrics_public: bool = Field(
        default=False,
        description="Whether `/metrics` is answered without the token, to everybody who can reach `listen`. "
        "It tells the names of sites, their requests, memory and processes.",
        examples=[True],
    )


class LogTable(Table):
    """How and where logs are written."""

    format: Annotated[str, choice("console", "json")] = Field(
        default=_LOG.format,
        description="Lines for people, or one JSON object a line.",
        examples=["console", "json"],
    )
    directory: Path | None = Field(
        default=None,
        description="One file a site, rotated. Default: standard error.",
        examples=["/var/log/djsup"],
    )
    access: Annotated[str, access_format()] = Field(
        default=_LOG.access,
        description="One line a request, in `SITE.access.log` in directory; without a directory there is none. "
        '"combined", "json", "off", or a format of its own; see docs/reference/access-log.md.',
        examples=["combined", "json", "off", "%h %t %m %U %>s %b %D"],
    )
    access_exclude: list[LoggedPath] = Field(
        default=[],
        description='Paths that are not logged while they are answered below 400; "/static/*" means all below.',
        examples=[["/healthz", "/static/*"]],
    )
    request_id: RequestId = Field(
        default=False,
        description="Whether each request gets an id that the application sees as X-Request-ID; "
        '"respond": the client is told, too. A log that has the id gives it in any case.',
        examples=[True, "respond"],
    )


class Configuration(Table):
    """The configuration of djsup."""

    include: list[Path] = Field(
        default=[],
        description="Other files that belong to this configuration, as patterns relative to this file.",
        examples=[["sites/*.toml"]],
    )
    listen: list[Annotated[Address, address()]] = Field(
        default=[],
        description="Addresses of the sites that name none of their own. Several sites are told apart by hosts and "
        "mount.",
        examples=[["0.0.0.0:8000"]],
    )
    tls_listen: list[Annotated[Address, address()]] = Field(
        default=[],
        description="Addresses that speak TLS, of the sites whose tls names none of its own. The name that a client "
        "asks for (SNI) decides whose it is.",
        examples=[["0.0.0.0:443"]],
    )
    redirects: dict[HostName, Origin] = Field(
        default={},
        description="Hosts on listen that are sent on to another origin, with 301 or 308; path and query are kept.",
        examples=[{"www.example.com": "https://example.com"}],
    )
    acme_dir: Path | None = Field(
        default=None,
        description="A webroot for certbot and its like: what they lay down below .well-known/acme-challenge/ in it is "
        "served for every host on listen. The user nobody must be able to read it.",
        examples=["/var/lib/djsup/acme"],
    )
    trusted_proxies: list[Annotated[str, network()]] = Field(
        default=[],
        description="The trusted proxies of the sites that name none of their own.",
        examples=[["127.0.0.1", "unix"]],
    )
    runtime_dir: Path | None = Field(
        default=None,
        description="The folder of the pid file and the control socket. Default: /run/djsup as root, else "
        "$XDG_RUNTIME_DIR/djsup, else a private folder in /tmp.",
        examples=["/run/djsup"],
    )
    orphan_grace: Annotated[float, duration(0, DAY_S)] = Field(
        default=_ORPHAN_GRACE_S,
        description="How long sites serve on, and their programs run on, when the daemon is gone.",
        examples=[60, "5m"],
    )
    stop_delay: Annotated[float, duration(0, HOUR_S)] = Field(
        default=_STOP_DELAY_S,
        description="How long djsup, told to stop, serves on while every health path answers 503, so that a load balancer "
        "sends nothing more. Then it stops. Told once more, it waits no longer.",
        examples=[10],
    )
    dashboard: DashboardTable | None = Field(
        default=None,
        description="The dashboard in the browser; without this table there is none.",
        examples=[{"listen": "127.0.0.1:9000", "token_file": "/etc/djsup/token"}],
    )
    log: LogTable = Field(
        default=LogTable(),
        description="How and where logs are written.",
        examples=[{"format": "json", "directory": "/var/log/djsup"}],
        json_schema_extra={"default": {}},
    )
    sites: dict[SiteKey, SiteTable] = Field(
        default={},
        description="The sites, by name.",
        examples=[{"blog": {"directory": "/srv/blog", "listen": ["127.0.0.1:8001"]}}],
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration file, for editors."""
    schema: dict[str, Any] = _tightened(Configuration.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "djsup.toml"}


def _tightened(schema: Any) -> Any:
    """A schema without null, which TOML does not have, without titles, and with no name but the allowed ones."""
    if isinstance(schema, list):
        return [_tightened(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _tightened(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    alternatives = kept.get("anyOf")
    if isinstance(alternatives, list) and len(alternatives) == 1:
        del kept["anyOf"]
        kept = {**alternatives[0], **kept}
    return kept


def table_at(path: KeyPath) -> type[Table] | None:
    """The table that a key path leads to, None when it leads to no table with known keys."""
    here: Any = Configuration
    for part in path:
        if isinstance(here, type) and issubclass(here, Table):
            field = here.model_fields.get(str(part))
            if field is None:
                return None
            here = field.annotation
        elif get_origin(here) is dict:
            here = get_args(here)[1]
        elif get_origin(here) is list and isinstance(part, int):
            here = get_args(here)[0]
        else:
            return None
        here = _without_none(here)
    return here if isinstance(here, type) and issubclass(here, Table) else None


def _without_none(annotation: Any) -> Any:
    """``X`` of ``X | None``; anything else as it is."""
    inner = [each for each in get_args(annotation) if each is not type(None)]
    optional = len(inner) == 1 and len(get_args(annotation)) == 2  # noqa: PLR2004 -- X and None
    return inner[0] if optional else annotation
