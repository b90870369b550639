"""Which Host headers name this dashboard: the defence against DNS rebinding.

A page of any site can have its own name resolve to 127.0.0.1 and then read what listens there;
it can't choose the Host header that the browser sends. So only names and addresses that are ours
are answered. An address written in digits can't be rebound, a name can.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_HTTP_PORT = 80
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class HostRule:
    """What a Host header may say."""

    names: frozenset[str]
    """Host names and addresses, lower case, without brackets."""
    port: int
    any_address: bool = False
    """Any address in digits is ours: the dashboard listens on all of them."""
    extra: frozenset[str] = frozenset()
    """Names by which a proxy in front is reached, lower case: whatever the port, for it is the proxy's."""
    anything: bool = False
    """No check: a Unix socket is not reached through a name."""

    def allows(self, header: str) -> bool:
        """Whether a request with this Host header is meant for us."""
        if self.anything:
            return True
        parts = split_host(header)
        if parts is None:
            return False
        host, port = parts
        if host in self.extra:
            return True
        if port != self.port:
            return False
        return host in self.names or (self.any_address and _is_address(host))


def split_host(header: str) -> tuple[str, int] | None:
    """Host (lower case, no brackets) and port of a Host header (RFC 9110, 7.2); None: malformed."""
    text = header.strip().lower()
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return None
        digits = rest[1:]
    else:
        host, _, digits = text.partition(":")
    if not host or (digits and not (digits.isascii() and digits.isdigit() and len(digits) <= len("65535"))):
        return None
    return host, int(digits) if digits else _HTTP_PORT


def rule_for(listener: socket.socket, listen: str, extra: Iterable[str] = ()) -> HostRule:
    """The rule for a bound socket; ``listen`` is its address as the configuration writes it, ``extra`` more names."""
    if listener.family == socket.AF_UNIX:
        return HostRule(frozenset(), 0, anything=True)
    host, port = listener.getsockname()[:2]
    written = split_host(listen)
    names = {host, *([written[0]] if written else [])}
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        names |= _LOOPBACK_NAMES
    if address.is_unspecified:
        names |= _LOOPBACK_NAMES | {socket.gethostname().lower()}
    more = frozenset(name.lower() for name in extra)
    return HostRule(frozenset(names), port, any_address=address.is_unspecified, extra=more)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
