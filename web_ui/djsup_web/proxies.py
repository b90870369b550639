"""What a reverse proxy in front of the dashboard says of the client: believed of trusted proxies only."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOPS_MAX = 20
"""Addresses of X-Forwarded-For that are looked at, from the right."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The networks of trusted proxies."""

    networks: tuple[Network, ...] = ()
    unix: bool = False
    """Whether whoever comes through a Unix socket is one."""

    def client(self, request: web.Request) -> str:
        """Where a request comes from: the last address that no trusted proxy has."""
        peer = request.remote or ""
        if not self._trusts(peer):
            return peer
        named = ",".join(request.headers.getall("X-Forwarded-For", [])).rsplit(",", HOPS_MAX)[-HOPS_MAX:]
        for each in reversed([text.strip() for text in named]):
            if not each:
                break
            peer = each
            if not self._trusts(each):
                break
        return peer[:64]

    def is_secure(self, request: web.Request) -> bool:
        """Whether the client has come by https."""
        said = request.headers.get("X-Forwarded-Proto", "").strip().lower()
        return self._trusts(request.remote or "") and said == "https"

    def _trusts(self, address: str) -> bool:
        if not address:
            return self.unix
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.networks)


NONE = Proxies()
"""Nobody is believed."""


def parse(texts: Sequence[str]) -> Proxies:
    """As the configuration writes them: IP networks, and "unix".

    Raises:
        ValueError: one is neither.
    """
    networks = tuple(ipaddress.ip_network(text, strict=False) for text in texts if text != "unix")
    return Proxies(networks, unix="unix" in texts)
