"""What trusted proxies say about the client: the X-Forwarded fields, and RFC 7239's Forwarded.

The principle is one: a proxy that is trusted vouches for what it wrote itself, and for nothing that it was
handed. Lists of addresses are walked from the right, where the nearest proxy wrote, through trusted ones;
the first address that is not trusted is the client, and whatever stands left of it was said by that
client and is cut off.

Who is trusted is decided once a connection (``trust``); what is not believed is dropped there.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union

from djsup_worker.refusal import Refused

Environ = Dict[str, Any]
Element = TypeVar("Element")
Client = Tuple[str, str]
"""An address, and a port or an empty string."""

UNIX = "unix"
"""Among networks: the peers on a Unix socket, who have no address."""
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
"""What a client spoke to its proxy, and the scheme for the application (some proxies name WebSocket's)."""
PORT_MAX = 65535

ADDRESS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?|([0-9.]+)(?::([0-9]{1,5}))?|([0-9A-Fa-f:.]+)")
NODE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9.]+|unknown|_[A-Za-z0-9._-]+)(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?")
HOST = re.compile(
    # RFC 3986, 3.2.2 and 3.2.3: a registered name or an IPv4 address, or an IP literal in brackets; a port.
    r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-fvV:.%A-Za-z_~-]+\])(?::[0-9]{0,5})?"
)
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
PAIR = re.compile(
    # RFC 7239, 4, and RFC 9110, 5.6.4.
    "(" + _WORD + ")=(?:(" + _WORD + r')|"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*)")'
)
QUOTED_PAIR = re.compile(r"\\(.)")
BLANK = " \t"


class Networks:
    """IP networks, and perhaps ``unix``."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ValueError for a name that is neither a network nor ``unix``."""
        self._unix = UNIX in names
        self._networks = [ipaddress.ip_network(name) for name in names if name != UNIX]

    def hold(self, host: str) -> bool:
        """Whether a peer is in one of them. An empty host is a peer on a Unix socket."""
        if not host:
            return self._unix
        address = parsed(host.partition("%")[0])
        return address is not None and any(address in network for network in self._networks)


def parsed(text: str) -> Optional[Union[ipaddress.IPv4Address, ipaddress.IPv6Address]]:
    """An address; one of IPv4 that is written as IPv6 (::ffff:192.0.2.1) is what it is. None: it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Said:
    """What one family of fields says. None: nothing."""

    __slots__ = ("chain", "client", "host", "port", "scheme")

    def __init__(self) -> None:
        self.client: Optional[Client] = None
        self.scheme: Optional[str] = None
        self.host: Optional[str] = None
        self.port: Optional[str] = None
        self.chain: Optional[str] = None
        """The believed part of the list of addresses, as X-Forwarded-For has it."""


def believe(environ: Environ, networks: Networks) -> Optional[Environ]:
    """What a request's environ must say because a trusted proxy says so; None: it says nothing.

    Takes Forwarded out of ``environ``: what is believed of it stands in the X-Forwarded keys of the result.
    Where both families are there the X-Forwarded fields count, and Forwarded may not contradict them:
    a proxy that knows one of the two lets the other pass as the client sent it.

    Raises:
        Refused: a field is malformed, or two contradict each other.
    """
    x_said = _x_forwarded(environ, networks)
    forwarded = environ.pop("HTTP_FORWARDED", None)
    if forwarded is not None:
        said = _forwarded(forwarded, networks)
        if x_said is None:
            return _as_environ(said)
        for one, other in (
            (x_said.client and x_said.client[0], said.client and said.client[0]),
            (x_said.scheme, said.scheme),
            (x_said.host and x_said.host.lower(), said.host and said.host.lower()),
        ):
            if one is not None and other is not None and one != other:
                raise Refused(400, "Forwarded contradicts X-Forwarded")
    return None if x_said is None else _as_environ(x_said)


def _as_environ(said: Said) -> Environ:
    environ: Environ = {}
    if said.client is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = said.client
    if said.chain is not None:
        environ["HTTP_X_FORWARDED_FOR"] = said.chain
    if said.scheme is not None:
        environ["wsgi.url_scheme"] = environ["HTTP_X_FORWARDED_PROTO"] = said.scheme
        environ["HTTPS"] = "on" if said.scheme == "https" else "off"
    if said.host is not None:
        environ["HTTP_X_FORWARDED_HOST"] = said.host
    if said.port is not None:
        environ["SERVER_PORT"] = environ["HTTP_X_FORWARDED_PORT"] = said.port
    return environ


# --- X-Forwarded-* -----------------------------------------------------------------------------


def _x_forwarded(environ: Environ, networks: Networks) -> Optional[Said]:
    chain = environ.get("HTTP_X_FORWARDED_FOR")
    scheme = _only("X-Forwarded-Proto", environ.get("HTTP_X_FORWARDED_PROTO"))
    host = _only("X-Forwarded-Host", environ.get("HTTP_X_FORWARDED_HOST"))
    port = _only("X-Forwarded-Port", environ.get("HTTP_X_FORWARDED_PORT"))
    if not (chain or scheme or host or port):
        return None
    said = Said()
    if chain:
        elements = [element.strip(BLANK) for element in chain.split(",")]
        said.client, first = _walk(elements, _address, networks)
        said.chain = ", ".join(elements[first:])
    if scheme:
        said.scheme = _scheme("X-Forwarded-Proto", scheme)
    if host:
        said.host = _host("X-Forwarded-Host", host)
    if port:
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= PORT_MAX):  # noqa: PLR2004
            raise Refused(400, "malformed X-Forwarded-Port")
        said.port = port
    return said


def _only(name: str, value: Optional[str]) -> str:
    """The one value of a field that has no place for several; equal ones are one.

    Where a proxy adds its own beside the client's, nothing tells the two apart.
    """
    if not value or "," not in value:
        return value or ""
    values = {each.strip(BLANK).lower(): each.strip(BLANK) for each in value.split(",")}
    if len(values) > 1:
        raise Refused(400, "%s contradicts itself" % name)
    return next(iter(values.values()))


def _scheme(name: str, value: str) -> str:
    scheme = SCHEMES.get(value.lower())
    if scheme is None:
        raise Refused(400, "malformed %s" % name)
    return scheme


def _host(name: str, value: str) -> str:
    if not HOST.fullmatch(value):
        raise Refused(400, "malformed %s" % name)
    return value


def _address(text: str) -> Optional[Client]:
    """An address as proxies write it, with or without brackets and port. None: it is something else."""
    found = ADDRESS.fullmatch(text)
    if not found:
        return None
    bracketed, port_6, plain, port_4, bare = found.groups()
    address = parsed(bracketed or plain or bare)
    return None if address is None else (str(address), port_6 or port_4 or "")


def _walk(
    elements: Sequence[Element], read: Callable[[Element], Optional[Client]], networks: Networks
) -> Tuple[Optional[Client], int]:
    """The client in a list whose last element the peer wrote, and the index of the first believed element.

    An element that is no address ("unknown") hides who came before: then the proxy that wrote it stands for
    its client, as nginx and Apache have it. If all are trusted, the first one is the client. Elements that are
    not believed are not read either: a client may send a thousand.
    """
    client: Optional[Client] = None
    for index in range(len(elements) - 1, -1, -1):
        one = read(elements[index])
        if one is None:
            return client, index
        client = one
        if not networks.hold(one[0]):
            return client, index
    return client, 0


# --- Forwarded ---------------------------------------------------------------------------------


def _forwarded(value: str, networks: Networks) -> Said:
    elements = _elements(value)
    said = Said()
    said.client, first = _walk(elements, _node, networks)
    believed = elements[first:]
    if said.client is not None:
        clients = [_node(element) for element in believed]
        said.chain = ", ".join(client[0] if client else "unknown" for client in clients)
    for element in reversed(believed):  # the outermost proxy that is believed knows what the client spoke
        if "proto" in element:
            said.scheme = _scheme("Forwarded", element["proto"])
        if "host" in element:
            said.host = _host("Forwarded", element["host"])
    return said


def _elements(value: str) -> List[Dict[str, str]]:
    """The elements of a Forwarded field, from the client's side to this one (RFC 7239, 4).

    White space around a semicolon, which proxies write though the grammar has none, changes no meaning.
    """
    elements: List[Dict[str, str]] = []
    element: Dict[str, str] = {}
    at, end = 0, len(value)
    needs_mark = False
    while at < end:
        mark = value[at]
        if mark in BLANK:
            at += 1
        elif mark in ",;":
            at += 1
            needs_mark = False
            if mark == "," and element:  # RFC 9110, 5.6.1: empty elements count for nothing
                elements.append(element)
                element = {}
        else:
            found = PAIR.match(value, at)
            if needs_mark or not found:
                raise Refused(400, "malformed Forwarded")
            name = found.group(1).lower()
            if name in element:  # RFC 7239, 4: once an element
                raise Refused(400, "malformed Forwarded")
            token, quoted = found.group(2), found.group(3)
            element[name] = token if token is not None else QUOTED_PAIR.sub(r"\1", quoted)
            at = found.end()
            needs_mark = True
    if element:
        elements.append(element)
    return elements


def _node(element: Dict[str, str]) -> Optional[Client]:
    """Whom an element is for, if that is an address (RFC 7239, 6); None for "unknown" and for one that hides itself."""
    found = NODE.fullmatch(element.get("for", "unknown"))
    if not found:
        raise Refused(400, "malformed Forwarded")
    name, port = found.groups()
    if name == "unknown" or name.startswith("_"):
        return None
    address = parsed(name.strip("[]"))
    if address is None or (name.startswith("[") and ":" not in name):
        raise Refused(400, "malformed Forwarded")
    return str(address), port if port and port.isdigit() else ""
