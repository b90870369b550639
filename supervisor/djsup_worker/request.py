"""The head of a request: from bytes to a WSGI environ, or to a refusal.

The grammar is llhttp's, through httptools. What llhttp leaves open, or has left open in some version,
is closed here, and each rule names its source. The body is ``body``'s affair; what the application is
called with besides these values, ``wsgi``'s.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional
from urllib.parse import quote_from_bytes, unquote_to_bytes

import httptools

from djsup_worker.refusal import Refused

TARGET_MAX_BYTES = 8 * 1024
LINE_MAX_BYTES = 8 * 1024
"""The longest field line, as nginx' large_client_header_buffers."""
FIELDS_MAX = 100
"""The most fields, as Apache's LimitRequestFields."""
NAMES_KEPT = 1024
"""Field names whose environ keys are remembered; a client that invents names gains nothing."""
NAME_KEPT_MAX_BYTES = 64

METHOD = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}")
VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
HOST = re.compile(
    # RFC 3986, 3.2.2 and 3.2.3: a registered name or an IPv4 address, or an IP literal in brackets; a port.
    r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-fvV:.%A-Za-z_~-]+\])(?::[0-9]{0,5})?"
)
ABSOLUTE = re.compile(r"(?i:https?)://([^/?#]*)([^#]*)")
ALSO_SAFE_IN_TARGET = "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~"

DROPPED = ""
"""The key of a field that is not passed on."""

Environ = Dict[str, Any]


class Head:
    """A request's head, read and found right."""

    __slots__ = ("chunked", "environ", "expect", "keep", "length", "what")

    def __init__(self, environ: Environ, what: bytes, *, keep: bool) -> None:
        self.environ = environ
        self.what = what
        """Method, a space, and the path as it was sent: what the scoreboard shows."""
        self.keep = keep
        """Whether the client means to send another request on this connection."""
        self.length = 0
        """Content-Length."""
        self.chunked = False
        self.expect = False
        """Whether the client waits for ``100 Continue`` before it sends the body."""


class HeadReader:
    """Reads heads, one whole head at a time. Holds one parser, so it serves one thread at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._environ: Environ = {}
        self._fault = ""
        self._keys: Dict[bytes, str] = {}
        self._methods: Dict[bytes, str] = {}
        self._hosts: Dict[str, None] = {}

    def read(self, data: bytes, base: Environ) -> Head:
        """Read one head, its last empty line included, over a copy of ``base``.

        Raises:
            Refused: it is malformed, ambiguous, too long, or asks for what this server does not do.
        """
        line = data[: data.find(b"\r\n")]
        parts = line.split(b" ")
        if len(parts) != 3:  # RFC 9112, 3: exactly two single spaces; llhttp takes more  # noqa: PLR2004
            raise Refused(400, "malformed request line")
        raw_method, raw_target, version = parts
        environ = base.copy()
        keep = True
        if version != b"HTTP/1.1":
            if version != b"HTTP/1.0":
                raise _bad_version(version)
            environ["SERVER_PROTOCOL"] = "HTTP/1.0"
            keep = False
        if len(raw_target) > TARGET_MAX_BYTES:
            raise Refused(414, "the target is longer than %d bytes" % TARGET_MAX_BYTES)
        if len(data) > LINE_MAX_BYTES or data.count(b"\r\n") > FIELDS_MAX + 2:
            _refuse_large(data)
        if b"\n " in data or b"\n\t" in data:
            # RFC 9112, 5.2: obs-fold; some versions of llhttp unfold it.
            raise Refused(400, "a folded header field")
        method = self._methods.get(raw_method) or self._new_method(raw_method)
        if not raw_target.isascii():
            # Not a URI (RFC 3986), but sent by real clients; encoded as they should have, for llhttp
            # refuses it and the path comes out the same.
            quoted = quote_from_bytes(raw_target, safe=ALSO_SAFE_IN_TARGET).encode()
            data = data.replace(raw_target, quoted, 1)
            raw_target = quoted

        self._environ = environ
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._renew()  # an offer, which this server does not take up (RFC 9110, 7.8)
        except httptools.HttpParserError as error:
            self._renew()
            raise _explain(data, error) from None
        if self._fault:
            fault, self._fault = self._fault, ""
            self._renew()
            raise Refused(400, fault)

        target = raw_target.decode("ascii")
        environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = environ["REQUEST_URI"] = target
        if target[0] != "/":
            target = self._other_form(method, target, environ)
        if "#" in target:  # no part of a request target (RFC 9112, 3.2); some clients send it
            target = target.partition("#")[0]
        path, _, query = target.partition("?")
        what = raw_method + b" " + path.encode()
        environ["QUERY_STRING"] = query
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        head = Head(environ, what, keep=keep)

        if "HTTP_HOST" in environ:
            host = environ["HTTP_HOST"]
            if host not in self._hosts:
                self._check_host(host)
        if "HTTP_CONNECTION" in environ:
            options = environ["HTTP_CONNECTION"].lower()
            if "close" in options or not keep:
                tokens = [token.strip() for token in options.split(",")]
                head.keep = "close" not in tokens and (keep or "keep-alive" in tokens)
        if "CONTENT_LENGTH" in environ:
            head.length = _length(environ["CONTENT_LENGTH"])
        if "HTTP_TRANSFER_ENCODING" in environ:
            _check_codings(environ, keep_alive_version=version == b"HTTP/1.1")
            # The application gets the body without the coding, and its length once it is known.
            del environ["HTTP_TRANSFER_ENCODING"]
            head.chunked = True
        if "HTTP_EXPECT" in environ:
            if environ["HTTP_EXPECT"].lower() != "100-continue":
                raise Refused(417, "only 100-continue can be expected")
            head.expect = version == b"HTTP/1.1"  # RFC 9110, 10.1.1: not from an HTTP/1.0 client
        if head.length or head.chunked or not head.keep:
            self._renew()  # llhttp now waits for a body, or for the end
        return head

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each field."""
        key = self._keys.get(name)
        if key is None:
            key = self._new_key(name)
        environ = self._environ
        if key in environ:
            self._repeated(key, value.rstrip().decode("latin-1"))
        elif key:
            environ[key] = value.rstrip().decode("latin-1")

    def _renew(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def _new_method(self, raw: bytes) -> str:
        if not METHOD.fullmatch(raw):
            raise Refused(400, "malformed method")
        if raw == b"CONNECT":
            raise Refused(501, "this server is no proxy")
        method = raw.decode()
        if len(self._methods) < FIELDS_MAX:
            self._methods[raw] = method
        return method

    def _new_key(self, name: bytes) -> str:
        key = _key(name)
        if len(self._keys) < NAMES_KEPT and len(name) <= NAME_KEPT_MAX_BYTES:
            self._keys[name] = key
        return key

    def _repeated(self, key: str, value: str) -> None:
        if key == "HTTP_HOST":
            self._fault = "two Host fields"  # RFC 9112, 3.2
        elif key == "CONTENT_LENGTH":
            self._fault = "two Content-Length fields"  # RFC 9112, 6.3: even equal ones are refused here
        elif key == "HTTP_COOKIE":
            self._environ[key] += "; " + value  # RFC 9113, 8.2.3, for what a proxy split
        else:
            self._environ[key] += "," + value  # RFC 9110, 5.3

    def _check_host(self, host: str) -> None:
        if not HOST.fullmatch(host):
            raise Refused(400, "malformed Host")
        if len(self._hosts) < NAMES_KEPT:
            self._hosts[host] = None

    def _other_form(self, method: str, target: str, environ: Environ) -> str:
        """The path and query of a target that does not begin with a slash (RFC 9112, 3.2)."""
        if target == "*" and method == "OPTIONS":
            return "/"  # as an OPTIONS for an empty path (3.2.4); REQUEST_URI tells the two apart
        found = ABSOLUTE.match(target)
        if not found:
            raise Refused(400, "malformed target")
        authority = found.group(1).rpartition("@")[2]
        if not authority:
            raise Refused(400, "a target without a host")
        environ["HTTP_HOST"] = authority  # 3.2.2: the Host field is ignored
        rest = found.group(2)
        return rest if rest.startswith("/") else "/" + rest


def _key(name: bytes) -> str:
    """The environ key of a field; DROPPED for a name with an underscore, which would shadow another's."""
    text = name.decode("latin-1").upper()
    if "_" in text or text == "PROXY":  # HTTP_PROXY configures HTTP clients: CVE-2016-1000110 and its kin
        return DROPPED
    if text in ("CONTENT-TYPE", "CONTENT-LENGTH"):
        return text.replace("-", "_")
    return "HTTP_" + text.replace("-", "_")


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19:  # noqa: PLR2004  # digits of 2**63
        raise Refused(400, "malformed Content-Length")
    return int(text)


def codings_of(value: str) -> List[str]:
    """The transfer codings that a field value names, in order, without parameters."""
    return [coding.partition(";")[0].strip(" \t").lower() for coding in value.split(",")]


def _check_codings(environ: Environ, *, keep_alive_version: bool) -> None:
    fault = _fault_of_codings(codings_of(environ["HTTP_TRANSFER_ENCODING"]))
    if fault is not None:
        raise fault
    if environ["HTTP_TRANSFER_ENCODING"].strip().lower() != "chunked":
        raise Refused(400, "malformed Transfer-Encoding")
    if "CONTENT_LENGTH" in environ:
        # RFC 9112, 6.3 lets a server choose; whoever sends both is mistaken or smuggles.
        raise Refused(400, "both Transfer-Encoding and Content-Length")
    if not keep_alive_version:
        raise Refused(400, "Transfer-Encoding in HTTP/1.0")  # RFC 9112, 6.1: faulty framing


def _fault_of_codings(codings: List[str]) -> Optional[Refused]:
    if "chunked" in codings[:-1]:
        return Refused(400, "chunked is not the last transfer coding")  # RFC 9112, 6.1
    if codings != ["chunked"]:
        return Refused(501, "a transfer coding other than chunked")
    return None


def _bad_version(version: bytes) -> Refused:
    if VERSION.fullmatch(version):
        return Refused(505, "HTTP/1.1 and HTTP/1.0 are spoken here")
    return Refused(400, "malformed request line")


def _refuse_large(data: bytes) -> None:
    if data.count(b"\r\n") > FIELDS_MAX + 2:
        raise Refused(431, "more than %d fields" % FIELDS_MAX)
    for line in data.split(b"\r\n")[1:]:
        if len(line) > LINE_MAX_BYTES:
            raise Refused(431, "a field of more than %d bytes" % LINE_MAX_BYTES)


def _explain(data: bytes, error: Exception) -> Refused:
    """What is wrong with a head that llhttp refused: it says 400 to all, some deserve a clearer answer."""
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return Refused(501, "unknown method")  # its form was checked
    values = [
        line.partition(b":")[2].decode("latin-1")
        for line in data.split(b"\r\n")
        if line[:18].lower() == b"transfer-encoding:"
    ]
    if values:
        fault = _fault_of_codings(codings_of(",".join(values)))
        if fault is not None:
            return fault
    return Refused(400, str(error))
