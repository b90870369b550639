"""What a proxy has to know of a site: whom it stands for, where djsup listens, how long anything may take.

Also says what in the site's own settings does not go with a proxy. Knows no proxy's words.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djsup.core.model import Address, AddressKind, SiteName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djsup.core.model import CertificateFiles, Health, Limits, SiteSettings, StaticFolder

IDLE_SHARE = 2 / 3
"""Of djsup's ``keepalive``: after this long a proxy gives up an idle connection, well before djsup does."""
IDLE_LEAST_S = 1
"""Proxies count whole seconds; where less is left, a connection is used once."""
LATER_S = 5
"""How much longer than djsup a proxy waits, so that it is djsup that says what was wrong."""
CONNECT_S = 5
HTTP_PORT = 80
HTTPS_PORT = 443
EVERYWHERE_HTTP = Address(AddressKind.TCP, "*", HTTP_PORT)
EVERYWHERE_HTTPS = Address(AddressKind.TCP, "*", HTTPS_PORT)
CHANGE_ME = "CHANGE-ME"
"""In whatever the configuration could not tell."""
UNTRUE = ("Forwarded", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Server", "X-Real-IP")
"""Fields that a client could send and no proxy here writes: each has to be removed."""
HASHED = "\\.[0-9a-f]{12}\\.[^/]+$"
"""What names of files end with that Django's ManifestStaticFilesStorage has given a hash. djsup asks its manifest."""
FOR_EVER = "max-age=315360000, public, immutable"
A_MINUTE = "max-age=60, public"
EACH_TIME = "max-age=0, public"
"""How long a file may be cached, in the words of WhiteNoise, so of djsup."""
GREATEST = (
    "request_timeout_s", "max_timeout_s", "max_body_bytes", "max_header_bytes", "header_timeout_s", "body_timeout_s",
    "write_timeout_s",
)  # fmt: skip
"""Limits of which the greatest counts, where sites share a block."""


@dataclass(frozen=True, slots=True)
class Front:
    """Where a proxy listens. With both, plain HTTP is sent on to TLS."""

    http: Address | None = EVERYWHERE_HTTP
    https: Address | None = EVERYWHERE_HTTPS

    @property
    def port_suffix(self) -> str:
        """What an https URL needs behind its host."""
        return "" if self.https is None or self.https.port == HTTPS_PORT else f":{self.https.port}"


@dataclass(frozen=True, slots=True)
class Face:
    """A certificate of a site, and the names that it is shown for."""

    site: SiteName
    number: int
    """From 1, among the site's certificates."""
    hosts: tuple[str, ...]
    """Empty: it is for whatever is asked."""
    certificate: CertificateFiles | None
    """None: djsup's configuration names none."""

    @property
    def file(self) -> str:
        """What its files may be called, without a suffix."""
        return self.site if self.number == 1 else f"{self.site}-{self.number}"

    @property
    def certificate_path(self) -> str:
        """The certificate, or a path that its owner has to change."""
        return self.certificate.certificate if self.certificate else f"/etc/ssl/{CHANGE_ME}/{self.file}.pem"

    @property
    def key_path(self) -> str:
        """Its key, or a path that its owner has to change."""
        return self.certificate.key if self.certificate else f"/etc/ssl/{CHANGE_ME}/{self.file}.key"


@dataclass(frozen=True, slots=True)
class Origin:
    """A site as a proxy sees it."""

    name: SiteName
    hosts: tuple[str, ...]
    default: bool
    """Whether it also answers to names that no site has."""
    address: Address
    faces: tuple[Face, ...]
    """One for each certificate, the one for all other names first; one without a certificate where there is none."""
    static: tuple[StaticFolder, ...]
    limits: Limits
    health: Health

    @property
    def idle_s(self) -> int:
        """How long the proxy may keep an idle connection to djsup, in seconds; 0: not at all."""
        idle_s = math.floor(self.limits.keepalive_s * IDLE_SHARE)
        return idle_s if idle_s >= IDLE_LEAST_S else 0

    @property
    def answer_s(self) -> int:
        """How long the proxy waits for an answer, in seconds."""
        return math.ceil(max(self.limits.request_timeout_s, self.limits.max_timeout_s)) + LATER_S

    @property
    def health_host(self) -> str:
        """The Host that the health path is asked with."""
        named = next((host for host in self.hosts if not host.startswith("*")), "localhost")
        return self.health.host or named

    @property
    def peer(self) -> str:
        """What djsup takes the proxy for, as ``trusted_proxies`` writes it; empty when only its owner knows."""
        if self.address.kind is AddressKind.UNIX:
            return "unix"
        return self.address.host if _is_loopback(self.address.host) else ""


def origin(site: SiteSettings, shown: Sequence[tuple[str, ...]]) -> Origin:
    """What a proxy has to know of one site. ``shown``: for each of its certificates, if many, the names that it is shown for."""
    return Origin(
        name=site.name,
        hosts=_hosts(site),
        default=site.default or not site.hosts,
        address=_reachable(site),
        faces=_faces(site, shown),
        static=tuple(replace(each, prefix=site.mount + each.prefix) for each in site.static),
        limits=site.limits,
        health=replace(site.health, path=site.mount + site.health.path) if site.health.path else site.health,
    )


def by_host(origins: Sequence[Origin]) -> list[Origin]:
    """The same, each host once: sites that share an address and a host are told apart by djsup, by their paths.

    Who has a host already has the files of those that come later, and limits that suit them all.
    """
    found: list[Origin] = []
    for each in origins:
        taken: set[str] = set()
        is_default = each.default
        for index, other in enumerate(found):
            common = {*other.hosts} & {*each.hosts}
            if other.address == each.address and (common or (is_default and other.default)):
                found[index] = replace(
                    other, static=(*other.static, *each.static), limits=_widest(other.limits, each.limits)
                )
                taken |= common
                is_default = is_default and not other.default
        hosts = _without(each.hosts, taken)
        if hosts or is_default:
            faces = (replace(face, hosts=_without(face.hosts, taken)) for face in each.faces)
            found.append(replace(each, hosts=hosts, default=is_default, faces=tuple(faces)))
    return found


def _without(hosts: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    return tuple(host for host in hosts if host not in taken)


def _widest(one: Limits, other: Limits) -> Limits:
    """What a proxy has to allow for both."""
    most = {name: max(getattr(one, name), getattr(other, name)) for name in GREATEST}
    return replace(one, keepalive_s=min(one.keepalive_s, other.keepalive_s), **most)


def advice(site: SiteSettings, found: Origin) -> list[str]:
    """What has to be changed in a site's settings for a proxy to stand in front of it, as ``found``."""
    said = []
    if CHANGE_ME in found.address.host:
        said.append('it has no plain address that a proxy could reach; add listen = ["127.0.0.1:8001"], say')
    if not found.peer:
        if not site.trusted_proxies:
            said.append("name the proxy's address in trusted_proxies, or all clients seem to be the proxy")
    elif not _trusts(site.trusted_proxies, found.peer):
        said.append(
            f'set trusted_proxies = ["{found.peer}"], or all clients seem to be the proxy and https seems to be http'
        )
    if site.proxy_protocol:
        said.append("set proxy_protocol = false: this proxy speaks HTTP to it, and sends no such header")
    if found.limits.keepalive_s and not found.idle_s:
        said.append(
            "keepalive is under 1.5 s, too short for a proxy to use a connection twice without a race"
        )
    return said


def _faces(site: SiteSettings, shown: Sequence[tuple[str, ...]]) -> tuple[Face, ...]:
    certificates = site.tls.certificates if site.tls else ()
    if len(certificates) < 2:  # noqa: PLR2004 -- nothing to choose from
        return (Face(site.name, 1, _hosts(site), certificates[0] if certificates else None),)
    pairs = enumerate(zip(certificates, shown, strict=True), 1)
    # The first one is also for whoever asks for a name of none; another one that has no name is never shown.
    return tuple(
        Face(site.name, number, hosts, files) for number, (files, hosts) in pairs if hosts or number == 1
    )


def _hosts(site: SiteSettings) -> tuple[str, ...]:
    return tuple(host.removesuffix(".") for host in site.hosts)


def _reachable(site: SiteSettings) -> Address:
    """The first address that speaks plain HTTP and that is known here."""
    for address in (*site.listen, *site.shared):
        if address in (*site.tls_listen, *site.shared_tls) or address.kind is AddressKind.FD:
            continue
        if address.host == "0.0.0.0":  # noqa: S104 -- nothing is bound here
            return Address(AddressKind.TCP, "127.0.0.1", address.port)
        if address.host == "::":
            return Address(AddressKind.TCP, "::1", address.port)
        return address
    return Address(AddressKind.TCP, f"{CHANGE_ME}.invalid", 8001)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trusts(networks: tuple[str, ...], peer: str) -> bool:
    if peer == "unix":
        return peer in networks
    here = ipaddress.ip_address("127.0.0.1" if peer == "localhost" else peer)
    return any(here in ipaddress.ip_network(each, strict=False) for each in networks if each != "unix")
