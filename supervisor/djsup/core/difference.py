"""What a reload would change: settings in force x settings in the file -> each difference and what it costs.

For people and for the reference; what is really done is decided by ``plan.py``, whose tables the costs are read
from, and by ``fleet.py``. Settings have the names that the configuration file uses. Values of environment variables
are never shown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from djsup.core import plan
from djsup.core.model import Address, ProgramReload, SiteName, SiteSettings, WorkerCount
from djsup.core.plan import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from djsup.core.model import ProgramSettings, Settings


class Cost(Enum):
    """What a changed setting costs. The value stands in JSON."""

    NOTHING = "nothing"
    """Nothing: it counts from then on."""
    LATER = "processes started later"
    """Nothing: it counts for the processes that are started from then on."""
    TOLD = "told"
    """The running processes are told."""
    WORKERS = "workers"
    """Workers are added, or drained."""
    GENERATION = "new generation"
    """The code is loaded anew, beside the old."""
    LISTENER = "new listener"
    """Addresses are bound or closed, the others stay as they are; the code is loaded anew, beside the old."""
    PROGRAM = "program"
    """Programs are started, stopped or replaced, each by itself."""
    DASHBOARD = "dashboard"
    """The dashboard is started anew."""
    DAEMON = "daemon"
    """It counts when the daemon is stopped and started again."""


_COSTS: Mapping[Change, Cost] = {
    Change.NOTHING: Cost.NOTHING,
    Change.TELL_LIMITS: Cost.TOLD,
    Change.SCALE: Cost.WORKERS,
    Change.GENERATION: Cost.GENERATION,
    Change.PROGRAMS: Cost.PROGRAM,
    Change.LISTENERS: Cost.LISTENER,
}
_TOLD_BY_DAEMON = frozenset({"tls", "access"})
"""Fields that need nothing of the core, because the daemon tells the running workers by itself."""
_FIELDS: Mapping[str, str] = {
    "log": "access",
    "env_file": "env",
    "queue_timeout": "queue_timeout_s",
    "tls_listen": "shared_tls",
    "before_reload": "reload",
    "after_reload": "reload",
    "hook_timeout": "reload",
}
"""Fields of SiteSettings that have another name than in the file."""
_SUFFIXES = ("_s", "_bytes")
"""Units that a field's name ends with, and a setting's does not."""
_DAEMON: Mapping[tuple[str, ...], Cost] = {
    ("include",): Cost.NOTHING,
    ("listen",): Cost.TOLD,
    ("tls_listen",): Cost.GENERATION,
    ("redirects",): Cost.TOLD,
    ("acme_dir",): Cost.TOLD,
    ("trusted_proxies",): Cost.GENERATION,
    ("runtime_dir",): Cost.DAEMON,
    ("orphan_grace",): Cost.LATER,
    ("stop_delay",): Cost.NOTHING,
    ("log", "format"): Cost.NOTHING,
    ("log", "directory"): Cost.NOTHING,
    ("log", "access"): Cost.TOLD,
    ("log", "access_exclude"): Cost.TOLD,
    ("log", "request_id"): Cost.TOLD,
}
"""Settings that belong to no site."""
HIDDEN = "(hidden)"
UNSET = "not set"


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that differs."""

    setting: str
    """As ``limits.request_timeout``."""
    before: str
    after: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class SiteForecast:
    """What would happen to one site."""

    name: str
    does: str
    """``added``, ``removed``, ``stays``."""
    loads: bool
    """Its code is loaded anew."""
    differences: tuple[Difference, ...] = ()
    restarts: tuple[str, ...] = ()
    """Programs that are started anew, or hear SIGHUP, when the new code has taken over."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a reload would do."""

    sites: tuple[SiteForecast, ...]
    rest: tuple[Difference, ...]
    """What differs outside the sites' tables."""


def cost_of(path: tuple[str, ...]) -> Cost:
    """What a change of the setting with this key path costs; ``*`` stands for a name.

    Raises:
        KeyError: it is not known.
    """
    if path[0] == "dashboard":
        return Cost.DASHBOARD
    if path[0] != "sites":
        return _DAEMON[path]
    key = path[2:]
    if key == ("tls", "listen"):
        return Cost.LISTENER
    if key[0] == "limits" and len(key) > 1:
        return _COSTS[plan.LIMITS_FIELDS[_field(key[1])]]
    field = _FIELDS.get(key[0], key[0])
    return Cost.TOLD if field in _TOLD_BY_DAEMON else _COSTS[plan.SITE_FIELDS[field]]


def _field(limit: str) -> str:
    names = (limit, *(f"{limit}{suffix}" for suffix in _SUFFIXES))
    return next((name for name in names if name in plan.LIMITS_FIELDS), limit)


def between(
    old: Settings,
    new: Settings,
    reload: frozenset[SiteName] | None,
    stopped: frozenset[SiteName] = frozenset(),
) -> Forecast:
    """What a reload of these sites (None: of all) would do, the file being as ``new``; what is stopped loads nothing."""
    names = dict.fromkeys([*(each.name for each in new.sites), *(each.name for each in old.sites)])
    asked = frozenset(names) if reload is None else reload
    sites = (_site(old.site(name), new.site(name), name, asked) for name in names)
    still = tuple(replace(each, loads=False, restarts=()) if each.name in stopped else each for each in sites)
    return Forecast(still, tuple(_rest(old, new)))


def _site(
    old: SiteSettings | None, new: SiteSettings | None, name: SiteName, asked: frozenset[SiteName]
) -> SiteForecast:
    if new is None:
        return SiteForecast(name, "removed", loads=False)
    if old is None:
        return SiteForecast(name, "added", loads=True)
    loads = name in asked or plan.needs_generation(plan.changes(old, new))
    found = tuple(_differences(("sites", name), dict(_values(old)), dict(_values(new))))
    kept = {each.name for each in old.programs} & {
        each.name for each in new.programs if each.schedule is None and each.reload is not ProgramReload.NONE
    }
    return SiteForecast(name, "stays", loads, found, tuple(sorted(kept)) if loads else ())


def _differences(
    table: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Difference]:
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if before == after or _text(before) == _text(after) == UNSET:
            continue
        secret = "env" in key.split(".")
        shown = (HIDDEN if secret and value is not None else _text(value) for value in (before, after))
        yield Difference(key, next(shown), next(shown), cost_of((*table, *key.split("."))))


def _rest(old: Settings, new: Settings) -> Iterator[Difference]:
    yield from _differences(
        (),
        _top(old),
        _top(new),
    )
    yield from _differences((), _flat("dashboard", old.dashboard), _flat("dashboard", new.dashboard))


def _top(settings: Settings) -> dict[str, Any]:
    return {
        "runtime_dir": settings.runtime_dir,
        "orphan_grace": settings.orphan_grace_s,
        "stop_delay": settings.stop_delay_s,
        "listen": tuple(each for each in settings.shared if each not in settings.shared_tls),
        "tls_listen": settings.shared_tls,
        "redirects": tuple(f"{host} to {to}" for host, to in settings.redirects),
        "acme_dir": settings.acme_dir,
        **_flat("log", settings.log),
    }


def _values(site: SiteSettings) -> Iterator[tuple[str, Any]]:
    """Each setting of a site that has a value, by its name in the file."""
    for each in fields(site):
        name, value = each.name, getattr(site, each.name)
        match name:
            case "name" | "shared":  # what is shared stands at the top of the file
                pass
            case "shared_tls":
                yield "tls_listen", value
            case "env":
                yield from ((f"env.{variable}", text) for variable, text in value)
            case "programs":
                for program in value:
                    yield from _program(program)
            case "access":
                yield "log.access", value.format
                yield "log.access_exclude", value.exclude
                yield "log.request_id", value.request_id
            case "reload":
                yield from (
                    ("before_reload", value.before),
                    ("after_reload", value.after),
                    ("hook_timeout", value.hook_timeout_s),
                    ("reload.surge", value.surge),
                    ("reload.keep_previous", value.keep_previous_s),
                )
                yield from _flat("reload.canary", value.canary).items()
            case _ if is_dataclass(value) and not isinstance(value, WorkerCount):
                yield from _flat(name, value).items()
            case _:
                yield _setting(name), value


def _program(program: ProgramSettings) -> Iterator[tuple[str, Any]]:
    for key, value in _flat(f"programs.{program.name}", program).items():
        if key.endswith(".env"):
            yield from ((f"{key}.{variable}", text) for variable, text in value)
        elif not key.endswith(".name"):
            yield key, value


def _flat(table: str, value: Any) -> dict[str, Any]:
    """The fields of a table by their names in the file; none when there is no such table."""
    if value is None:
        return {}
    return {f"{table}.{_setting(each.name)}": getattr(value, each.name) for each in fields(value)}


def _setting(field: str) -> str:
    for suffix in _SUFFIXES:
        field = field.removesuffix(suffix)
    return field


def _text(value: Any) -> str:
    """A value for people."""
    match value:
        case None | ():
            return UNSET
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case Enum():
            return str(value.value)
        case WorkerCount(least, most):
            return f"{least} to {most}" if value.scales else str(least)
        case Address():
            return str(value)
        case tuple():
            return ", ".join(_text(each) for each in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return " ".join(_text(each) for each in asdict(value).values())
        case _:
            return str(value)


def to_json(forecast: Forecast) -> dict[str, Any]:
    """The object of ``djsup reload --dry-run --json``."""
    return {
        "sites": [
            {
                "name": each.name,
                "does": each.does,
                "loads_code": each.loads,
                "differences": [_json(one) for one in each.differences],
                "restarts": list(each.restarts),
            }
            for each in forecast.sites
        ],
        "daemon": [_json(each) for each in forecast.rest],
    }


def _json(difference: Difference) -> dict[str, str]:
    return {**asdict(difference), "cost": difference.cost.value}
