"""The rules for sites that share addresses: each request must be one site's, and one site's only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from djsup.core.routes import ANY, routing_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djsup.config.documents import Documents
    from djsup.config.places import KeyPath
    from djsup.config.problem import Problem
    from djsup.core.model import Address, Settings
    from djsup.core.routes import SiteRoute


class Report(Protocol):
    """Tells of a problem at a key."""

    def __call__(self, path: KeyPath, **words: str | None) -> None:
        """One problem; ``words`` as of ``Documents.problem``."""


def settle(settings: Settings, documents: Documents, wrong: Report, warnings: list[Problem]) -> Settings:
    """The settings, with the addresses that are shared; what cannot be told apart becomes a problem."""
    shared = _all(site.shared for site in settings.sites)
    settings = replace(settings, shared=shared, shared_tls=_all(site.shared_tls for site in settings.sites))
    for site in settings.sites:
        path: KeyPath = ("sites", site.name)
        if site.proxy_protocol and site.shared:
            wrong(
                (*path, "proxy_protocol"),
                hint="is for addresses of the site's own, and this site shares its addresses with others",
            )
        if site.mount and site.shared_tls:
            hint = "tells no sites apart on tls_listen: there the name decides alone; give the site a host of its own"
            wrong((*path, "mount"), hint=hint)
    for plain in (True, False):
        _tell_apart(
            [each for each in routing_of(settings).sites if (each.plain if plain else each.tls)],
            documents,
            wrong,
        )
    _look_for_idle(settings, documents, warnings)
    return settings


def _all(groups: Iterable[tuple[Address, ...]]) -> tuple[Address, ...]:
    return tuple(dict.fromkeys(each for group in groups for each in group))


def _tell_apart(routes: list[SiteRoute], documents: Documents, wrong: Report) -> None:
    first: dict[tuple[str, str], KeyPath] = {}
    for route in routes:
        for key in route.claims():
            place = _place(route, key[0], documents)
            other = first.setdefault(key, place)
            if other != place:
                problem = documents.problem(other)
                where = f"{problem.file}:{problem.line} ({problem.key})"
                host = key[0] or "every other host"
                wrong(place, hint=f"{host}{key[1]} is of two sites: here and at {where}; {_advice(key[0])}")


def _place(route: SiteRoute, host: str, documents: Documents) -> KeyPath:
    """The key that makes a site have a host."""
    path: KeyPath = ("sites", route.site)
    if host == ANY:
        return (*path, "default") if route.default else path
    index = route.hosts.index(host)
    whole: KeyPath = (*path, "hosts", index)
    return whole if documents.raw(whole) is not None else (*path, "hosts")


def _advice(host: str) -> str:
    if host == ANY:
        return "give each site that shares an address hosts of its own, or a mount"
    return "leave it to one of them, or give one a mount"


def _look_for_idle(settings: Settings, documents: Documents, warnings: list[Problem]) -> None:
    """Say what has no effect, because no site shares an address, and what hardly has the effect that was meant."""
    for site in settings.sites:
        if "default" in site.hosts:
            hint = "is a host's name here; the site that answers for every other host says default = true"
            path = ("sites", site.name, "hosts", site.hosts.index("default"))
            warnings.append(documents.problem(path, hint=hint))
        if site.default and not site.shared:
            hint = "has no effect: no other site is on this one's addresses"
            warnings.append(documents.problem(("sites", site.name, "default"), hint=hint))
    plain = [site for site in settings.sites if len(site.shared) > len(site.shared_tls)]
    if plain:
        return
    for key, written in (("redirects", settings.redirects), ("acme_dir", settings.acme_dir)):
        if written:
            hint = "has no effect: it is for sites that have no listen of their own"
            warnings.append(documents.problem((key,), hint=hint))
