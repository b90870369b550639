"""Whose a request is, where several sites share an address: by its host, then by the beginning of its path.

Pure: the settings become a table, and the table is asked. A site is named by a host (``example.com``), by all
hosts below one (``*.example.com``), or by neither: then it is for every host, as a default site is besides its own.
The rules, in this order:

1. the host itself goes before a ``*``, the longest ``*`` before shorter ones, all before sites for every host;
2. among sites of the same host the longest ``mount`` goes first: ``/shop`` is for ``/shop`` and all below it;
3. where none of a host's sites is for the path, the next host in rule 1 is asked.

Hosts are compared without port, case and a dot at the end (RFC 9110, 4.2.3; RFC 3986, 3.2.2); paths as the application
gets them, with nothing percent-encoded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from djsup.core.model import SiteName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from djsup.core.model import Settings, SiteSettings

ANY = ""
"""Every host."""
KNOWN_MAX = 1024
"""Hosts whose sites are remembered; a client that invents hosts gains nothing."""


@dataclass(frozen=True, slots=True)
class SiteRoute:
    """One site, as the router has to know it."""

    site: SiteName
    hosts: tuple[str, ...] = ()
    """Normal ones; empty: every host."""
    mount: str = ""
    """As ``/shop``; empty: every path."""
    plain: bool = True
    """Whether it is on the addresses that speak no TLS."""
    tls: bool = False
    """Whether it is on those that do."""
    default: bool = False
    """Whether it is for every host, beside its own."""
    threads: int = 1
    """How many requests one of its workers runs at a time."""
    queue: int = 0
    """How many requests may wait for a worker."""
    queue_timeout_s: float = 0.0
    keepalive_s: float = 0.0
    header_timeout_s: float = 0.0
    max_header_bytes: int = 0

    def claims(self) -> Iterator[tuple[str, str]]:
        """Host and mount of all that it is for. No two sites may have one in common."""
        for host in self.hosts:
            yield host, self.mount
        if self.default or not self.hosts:
            yield ANY, self.mount


@dataclass(frozen=True, slots=True)
class Routing:
    """What the router is to do, whole."""

    sites: tuple[SiteRoute, ...] = ()
    redirects: tuple[tuple[str, str], ...] = ()
    """Hosts, normal ones, and the origin that each is sent on to."""
    acme_dir: str | None = None
    """The folder below which a certificate authority's questions are answered; an absolute path."""

    def to_json(self) -> dict[str, Any]:
        """For the channel."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Routing:
        """What ``to_json`` has given, of another version perhaps: what is not known here is passed over."""
        known = {each.name for each in fields(SiteRoute)}
        found = [{name: value for name, value in each.items() if name in known} for each in raw["sites"]]
        sites = tuple(
            SiteRoute(**{**each, "hosts": tuple(each["hosts"]), "site": SiteName(each["site"])})
            for each in found
        )
        redirects = tuple((host, origin) for host, origin in raw.get("redirects", ()))
        return cls(sites, redirects, raw.get("acme_dir"))


def routing_of(settings: Settings, closed: Collection[SiteName] = ()) -> Routing:
    """What the router is to do with these settings; no sites: there is nothing for it.

    Of a site that is closed nothing waits for a worker: once it has none, requests are answered 503 at once.
    """
    sites = tuple(_route(site, site.name in closed) for site in settings.sites if site.shared)
    redirects = tuple((normal(host), origin) for host, origin in settings.redirects)
    return Routing(sites, redirects, settings.acme_dir) if settings.shared else Routing()


def _route(site: SiteSettings, closed: bool) -> SiteRoute:
    return SiteRoute(
        site.name,
        tuple(normal(host) for host in site.hosts),
        site.mount,
        len(site.shared) > len(site.shared_tls),
        bool(site.shared_tls),
        site.default,
        site.threads,
        0 if closed else site.queue,
        site.queue_timeout_s,
        site.limits.keepalive_s,
        site.limits.header_timeout_s,
        site.limits.max_header_bytes,
    )


def bare(host: str) -> str:
    """A host that a client has sent, as it is compared: without port, in small letters, no dot at the end.

    One that is not in ASCII is nobody's, and is not to be mended: the router, which asks, can import nothing.
    """
    host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    return host.lower().removesuffix(".")


def normal(host: str) -> str:
    """A host of the configuration, as it is compared: as ``bare``, and in ASCII (RFC 3490, ToASCII), if it can be."""
    host = bare(host)
    if not host.isascii():
        try:
            return host.encode("idna").decode("ascii")
        except UnicodeError:
            return host
    return host


class Table:
    """The sites, ready to be asked for."""

    def __init__(self, sites: Iterable[SiteRoute]) -> None:
        self._by_host: dict[str, list[tuple[bytes, SiteName]]] = {}
        for each in sites:
            for host, mount in each.claims():
                self._by_host.setdefault(host, []).append((mount.encode(), each.site))
        for found in self._by_host.values():
            found.sort(key=lambda pair: len(pair[0]), reverse=True)
        self._known: dict[bytes, tuple[tuple[bytes, bytes, SiteName], ...]] = {}

    def find(self, host: bytes, path: bytes) -> SiteName | None:
        """The site of a request; ``host`` as its Host field has it, ``path`` with nothing percent-encoded."""
        candidates = self._known.get(host)
        if candidates is None:
            candidates = self._candidates(host)
        for mount, below, site in candidates:
            if not mount or path.startswith(below) or path == mount:
                return site
        return None

    def _candidates(self, host: bytes) -> tuple[tuple[bytes, bytes, SiteName], ...]:
        name = bare(host.decode("latin-1"))
        tiers = [name]
        at = name.find(".")
        while at >= 0:
            tiers.append("*" + name[at:])
            at = name.find(".", at + 1)
        tiers.append(ANY)
        # A host that is empty is nobody's own, though ANY is written so.
        found = [pair for tier in (tiers if name else [ANY]) for pair in self._by_host.get(tier, ())]
        candidates = tuple((mount, mount + b"/", site) for mount, site in found)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[host] = candidates
        return candidates
