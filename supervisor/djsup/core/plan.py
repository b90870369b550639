"""What a changed table of the configuration needs: old settings x new settings -> changes.

Knows the fields and nothing of what a pool does about them. A field without an entry fails a
test, so that nobody adds a setting without saying what its change needs.
"""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from djsup.core.model import Limits, SiteSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

_Table = TypeVar("_Table", SiteSettings, Limits)


class Change(Enum):
    """What a difference needs."""

    NOTHING = "nothing"
    """The daemon looks the value up when it needs it; no process has to hear of it."""
    TELL_LIMITS = "tell limits"
    """The running workers are told."""
    SCALE = "scale"
    """Workers are added, or drained."""
    GENERATION = "generation"
    """The processes were started with the old value: a new generation is loaded."""
    PROGRAMS = "programs"
    """Programs are started, stopped or replaced, each by itself (``programs.py``)."""
    LISTENERS = "listeners"
    """Other addresses: they are bound first, then a new generation inherits them."""


SITE_FIELDS: Mapping[str, Change] = {
    "name": Change.NOTHING,  # never differs: tables are compared by name
    "directory": Change.GENERATION,
    "python": Change.GENERATION,
    "listen": Change.LISTENERS,
    "trusted_proxies": Change.GENERATION,
    "proxy_protocol": Change.GENERATION,
    "wsgi": Change.GENERATION,
    "settings": Change.GENERATION,
    "env": Change.GENERATION,
    "user": Change.GENERATION,
    "group": Change.GENERATION,
    "isolation": Change.GENERATION,
    "hosts": Change.GENERATION,  # the first name is the Host of the health question
    "default": Change.NOTHING,
    "workers": Change.SCALE,
    "scaling": Change.NOTHING,
    "static": Change.GENERATION,
    "threads": Change.GENERATION,
    "preload": Change.GENERATION,
    "limits": Change.NOTHING,  # compared field by field, below
    "health": Change.GENERATION,
    "reload": Change.NOTHING,
    "programs": Change.PROGRAMS,
    "tls": Change.NOTHING,  # the running workers are given certificates when files change; addresses: below
    "shared": Change.NOTHING,  # the router's affair, as the next ones
    "shared_tls": Change.GENERATION,  # a worker is told at its start whether it needs certificates
    "mount": Change.GENERATION,
    "queue": Change.NOTHING,
    "queue_timeout_s": Change.NOTHING,
    "access": Change.NOTHING,  # the daemon tells running workers by itself, as it opens their log files again
}

LIMITS_FIELDS: Mapping[str, Change] = {
    "request_timeout_s": Change.TELL_LIMITS,
    "soft_timeout_s": Change.TELL_LIMITS,
    "max_timeout_s": Change.TELL_LIMITS,
    "boot_timeout_s": Change.NOTHING,
    "drain_timeout_s": Change.TELL_LIMITS,  # a worker that the daemon left drains by itself
    "stable_after_s": Change.NOTHING,
    "max_requests": Change.NOTHING,
    "max_memory_bytes": Change.NOTHING,
    "max_lifetime_s": Change.NOTHING,
    "max_body_bytes": Change.TELL_LIMITS,
    "max_header_bytes": Change.TELL_LIMITS,
    "keepalive_s": Change.TELL_LIMITS,
    "header_timeout_s": Change.TELL_LIMITS,
    "body_timeout_s": Change.TELL_LIMITS,
    "write_timeout_s": Change.TELL_LIMITS,
}


def _differences(old: _Table, new: _Table, table: Mapping[str, Change]) -> set[Change]:
    return {table[each.name] for each in fields(old) if getattr(old, each.name) != getattr(new, each.name)}


def changes(old: SiteSettings, new: SiteSettings) -> frozenset[Change]:
    """What the difference between two tables of one site needs; empty: they are equal."""
    found = _differences(old, new, SITE_FIELDS)
    if old.tls_listen != new.tls_listen:
        found.add(Change.GENERATION)  # a worker is told at its start which listeners speak TLS
    return frozenset(found | _differences(old.limits, new.limits, LIMITS_FIELDS))


def in_force(loaded: SiteSettings, wanted: SiteSettings) -> SiteSettings:
    """What counts for a site whose processes were started with ``loaded``, when it is to be as ``wanted``."""
    kept = {name for name, change in SITE_FIELDS.items() if change in {Change.GENERATION, Change.LISTENERS}}
    return replace(wanted, **{name: getattr(loaded, name) for name in kept})


def must_tell(old: Limits, new: Limits) -> bool:
    """Whether a worker that knows the old limits has to be told the new ones."""
    return Change.TELL_LIMITS in _differences(old, new, LIMITS_FIELDS)


def needs_generation(found: frozenset[Change]) -> bool:
    """Whether the code has to be loaded anew."""
    return not found.isdisjoint({Change.GENERATION, Change.LISTENERS})
