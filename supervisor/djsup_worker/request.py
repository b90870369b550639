"""The head of a request: from bytes to a WSGI environ, or to a refusal.

The grammar is llhttp's, through httptools. What llhttp leaves open, or has left open in some version,
is closed here, and each rule names its source. The body is ``body``'s affair; what the application is
called with besides these values, ``wsgi``'s.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Optional, Set, Tuple
from urllib.parse import unquote_to_bytes

import httptools

from djsup_worker.forwarding import HOST
from djsup_worker.refusal import Refused

TARGET_MAX_BYTES = 8 * 1024
FIELD_MAX_BYTES = 8 * 1024
"""The longest field line, as nginx' large_client_header_buffers."""
FIELDS_MAX = 100
"""The most fields, as Apache's LimitRequestFields."""
NAMES_KEPT = 1024
"""Field names whose environ keys are remembered; a client that invents names gains nothing."""
NAME_KEPT_MAX_BYTES = 64
HEADS_KEPT = 256
HEAD_KEPT_MAX_BYTES = 2 * 1024
SECTIONS_KEPT = 256
SECTION_KEPT_MAX_BYTES = 2 * 1024

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
METHOD = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}")
TARGET = re.compile(rb"[!-~\x80-\xff]+")
VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
ABSOLUTE = re.compile(r"(?i:https?)://([^/?#]*)([^#]*)")
ABOVE_ASCII = re.compile(rb"[\x80-\xff]")

DROPPED = ""
"""The key of a field that is not passed on."""
ABOUT_THE_CLIENT = ("FORWARDED", "X-REAL-IP")
ABOUT_THE_CLIENT_PREFIX = "X-FORWARDED-"
"""Fields in which a proxy speaks of its client."""

Environ = Dict[str, Any]


class Line:
    """What a request line says, read and found right."""

    __slots__ = ("environ", "is_head", "is_http_1_0", "route", "what")

    def __init__(self, environ: Environ, what: bytes, *, is_head: bool, is_http_1_0: bool) -> None:
        self.environ = environ
        """Method, path, query and version under their environ keys."""
        self.what = what
        """Method, a space, and the path as it was sent, for the scoreboard and the log."""
        self.is_head = is_head
        self.is_http_1_0 = is_http_1_0
        self.route: Optional[bytes] = None
        """As ``habits`` has it, once somebody asked."""


class Fields:
    """What a header section says, read and found right."""

    __slots__ = ("chunked", "close", "environ", "expect", "forwarded", "keep_alive", "length")

    def __init__(self, environ: Environ) -> None:
        self.environ = environ
        """The fields under their environ keys."""
        self.length = 0
        """Content-Length."""
        self.chunked = False
        self.expect = False
        """Whether the client waits for ``100 Continue`` before it sends the body."""
        self.close = False
        """Whether ``Connection`` names close; and, for HTTP/1.0, keep-alive."""
        self.keep_alive = False
        self.forwarded: Optional[Environ] = None
        """What a trusted proxy says of its client; it goes before all else in the environ."""


Head = Tuple[Environ, Line, Fields]
"""A request's head, and its environ but for ``wsgi.input``."""


def keeps(line: Line, fields: Fields) -> bool:
    """Whether the client means to send another request on this connection (RFC 9112, 9.3)."""
    return not fields.close and (fields.keep_alive or not line.is_http_1_0)


class HeadReader:
    """Reads heads, one whole head at a time. Holds one parser, so it serves one thread at a time.

    Clients send the same header section with request after request, and some the same request. A section
    that was read lately, or a whole head whose section was, is known by its bytes and not read again; only
    where no body is announced.

    With ``believe`` it reads for peers that are trusted: that gives what they say of their clients. Without it
    such fields are dropped, and ``on_dropped`` is called with each such name that was not met before.
    """

    def __init__(
        self,
        *,
        believe: Optional[Callable[[Environ], Optional[Environ]]] = None,
        on_dropped: Optional[Callable[[str], None]] = None,
    ) -> None:
        self._believe = believe
        self._on_dropped = on_dropped
        self._parser = httptools.HttpRequestParser(self)
        self._environ: Environ = {}
        self._fault = ""
        self._keys: Dict[bytes, str] = {}
        self._heads: Dict[bytes, Tuple[Environ, Environ, Line, Fields]] = {}
        """Base, environ over that base, line and fields."""
        self._sections: Dict[bytes, Fields] = {}
        self._methods: Set[bytes] = set()
        """Methods that llhttp knows."""

    def known(self, data: bytes, base: Environ) -> Optional[Head]:
        """The head that these bytes are, if just these were read lately; they are one whole head then."""
        kept = self._heads.get(data)
        if kept is None or kept[0] is not base:
            return None
        return kept[1].copy(), kept[2], kept[3]

    def read(self, data: bytes, base: Environ) -> Head:
        """Read one head, its last empty line included, over a copy of ``base``.

        Raises:
            Refused: it is malformed, ambiguous, too long, or asks for what this server does not do.
        """
        known = self.known(data, base)
        if known is not None:
            return known
        line_end = data.find(b"\r\n")
        section = data[line_end + 2 :]
        parts = data[:line_end].split(b" ")
        if len(parts) != 3:  # RFC 9112, 3: exactly two single spaces; llhttp takes more  # noqa: PLR2004
            raise Refused(400, "malformed request line")
        method, target, version = parts
        fields = self._sections.get(section)
        again = fields is not None
        # With a known section only the line is left to judge, and what llhttp would say about it is known.
        if fields is None or not (
            method in self._methods
            and target.startswith(b"/")
            and target.isascii()
            and target.decode().isprintable()
            and len(target) <= TARGET_MAX_BYTES
            and version == b"HTTP/1.1"
        ):
            fields = self._read_with_llhttp(data, section, method, target, version)
        line = _line(method, target, version)
        environ = base.copy()
        environ.update(fields.environ)
        environ.update(line.environ)
        if (
            again
            and len(data) <= HEAD_KEPT_MAX_BYTES
            and not (fields.length or fields.chunked or fields.expect)
        ):
            if len(self._heads) >= HEADS_KEPT:
                self._heads.clear()
            self._heads[data] = (base, environ.copy(), line, fields)
        return environ, line, fields

    def _read_with_llhttp(
        self, data: bytes, section: bytes, raw_method: bytes, raw_target: bytes, version: bytes
    ) -> Fields:
        """Read and check the whole head, and give its fields."""
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise _bad_version(version)
        if not METHOD.fullmatch(raw_method):
            # RFC 9110, 9.1: methods are case-sensitive, so "get" is a method that nobody knows.
            is_token = TOKEN.fullmatch(raw_method.decode("latin-1"))
            raise Refused(501, "unknown method") if is_token else Refused(400, "malformed method")
        if raw_method == b"CONNECT":
            raise Refused(501, "this server is no proxy")
        if len(raw_target) > TARGET_MAX_BYTES:
            raise Refused(414, "the target is longer than %d bytes" % TARGET_MAX_BYTES)
        if not TARGET.fullmatch(raw_target):
            raise Refused(400, "malformed target")
        line_ends = data.count(b"\r\n")
        if data.count(b"\n") != line_ends or data.count(b"\r") != line_ends:
            # RFC 9112, 2.2. llhttp takes a line feed in the request line for the end of an HTTP/0.9 request,
            # and reads what follows as fields.
            raise Refused(400, "a bare line feed or carriage return")
        if len(data) > FIELD_MAX_BYTES or line_ends > FIELDS_MAX + 2:
            _refuse_large(data)
        if section[:1] in b" \t" or b"\n " in section or b"\n\t" in section:
            # RFC 9112, 5.2: obs-fold; some versions of llhttp unfold it.
            raise Refused(400, "a folded header field")
        if not raw_target.isascii():
            # llhttp refuses it; what is sent on is what it should have been.
            data = data.replace(raw_target, quoted(raw_target), 1)

        environ: Environ = {}
        self._environ = environ
        self._fault = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # an offer, which this server does not take up (RFC 9110, 7.8)
        except httptools.HttpParserError as error:
            raise _explain(data, error) from None
        finally:
            # It now waits for a body, or for the end, or is stuck.
            self._parser = httptools.HttpRequestParser(self)
        if self._fault:
            raise Refused(400, self._fault)
        self._methods.add(raw_method)

        fields = Fields(environ)
        self._understand(fields, version)
        if not (fields.length or fields.chunked or fields.expect) and len(section) <= SECTION_KEPT_MAX_BYTES:
            if len(self._sections) >= SECTIONS_KEPT:
                self._sections.clear()
            self._sections[section] = fields
        return fields

    def _understand(self, fields: Fields, version: bytes) -> None:
        """What the fields mean for the connection and the body."""
        environ = fields.environ
        # A Host that is missing is let pass, against RFC 9112, 3.2: clients of no browser leave it out, it opens
        # no way to smuggle, and SERVER_NAME says where the request arrived. Django asks for it by itself.
        if not HOST.fullmatch(environ.get("HTTP_HOST", "")):
            raise Refused(400, "malformed Host")
        if "HTTP_CONNECTION" in environ:
            options = [option.strip() for option in environ["HTTP_CONNECTION"].lower().split(",")]
            fields.close = "close" in options
            fields.keep_alive = "keep-alive" in options
        if "CONTENT_LENGTH" in environ:
            fields.length = _length(environ["CONTENT_LENGTH"])
        if "HTTP_TRANSFER_ENCODING" in environ:
            _check_codings(environ, version)
            # The application gets the body without the coding, and its length once it is known.
            del environ["HTTP_TRANSFER_ENCODING"]
            fields.chunked = True
        if "HTTP_EXPECT" in environ:
            if environ["HTTP_EXPECT"].lower() != "100-continue":
                raise Refused(417, "only 100-continue can be expected")
            fields.expect = version == b"HTTP/1.1"  # RFC 9110, 10.1.1: not from an HTTP/1.0 client
        if self._believe is not None:
            fields.forwarded = self._believe(environ)

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

    def _new_key(self, name: bytes) -> str:
        key = _key(name)
        if self._believe is None and _is_about_the_client(name):
            if self._on_dropped is not None:
                self._on_dropped(name.decode("latin-1"))
            key = DROPPED
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


def _line(raw_method: bytes, raw_target: bytes, version: bytes) -> Line:
    """What a request line says that was found well-formed."""
    if not raw_target.isascii():
        raw_target = quoted(raw_target)
    target = raw_target.decode()
    method = raw_method.decode()
    environ: Environ = {"REQUEST_METHOD": method, "REQUEST_URI": target, "RAW_URI": target}
    is_http_1_0 = version == b"HTTP/1.0"
    if is_http_1_0:
        environ["SERVER_PROTOCOL"] = "HTTP/1.0"
    if not target.startswith("/"):
        target = _other_form(method, target, environ)
    # A fragment is no part of a request target (RFC 9112, 3.2); some clients send it.
    path, _, environ["QUERY_STRING"] = target.partition("#")[0].partition("?")
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
    return Line(environ, raw_method + b" " + path.encode(), is_head=method == "HEAD", is_http_1_0=is_http_1_0)


def quoted(raw_target: bytes) -> bytes:
    """A target with bytes above ASCII, which real clients send, as RFC 3986 has it; its path is the same.

    Only these: what else does not belong in a target is the grammar's to refuse, and reaches it as it is.
    """
    return ABOVE_ASCII.sub(lambda found: b"%%%02X" % ord(found.group()), raw_target)


def _other_form(method: str, target: str, environ: Environ) -> str:
    """The path and query of a target that does not begin with a slash (RFC 9112, 3.2)."""
    if target == "*" and method == "OPTIONS":
        return "/"  # as an OPTIONS for an empty path (3.2.4); REQUEST_URI tells the two apart
    found = ABSOLUTE.match(target)
    if not found:
        raise Refused(400, "malformed target")
    authority = found.group(1).rpartition("@")[2]
    if not authority or not HOST.fullmatch(authority):
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


def _is_about_the_client(name: bytes) -> bool:
    text = name.decode("latin-1").upper()
    return text in ABOUT_THE_CLIENT or text.startswith(ABOUT_THE_CLIENT_PREFIX)


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19:  # noqa: PLR2004  # digits of 2**63
        raise Refused(400, "malformed Content-Length")
    return int(text)


def codings_of(value: str) -> List[str]:
    """The transfer codings that a field value names, in order, without parameters."""
    return [coding.partition(";")[0].strip(" \t").lower() for coding in value.split(",")]


def _check_codings(environ: Environ, version: bytes) -> None:
    fault = _fault_of_codings(codings_of(environ["HTTP_TRANSFER_ENCODING"]))
    if fault is not None:
        raise fault
    if environ["HTTP_TRANSFER_ENCODING"].strip().lower() != "chunked":
        raise Refused(400, "malformed Transfer-Encoding")
    if "CONTENT_LENGTH" in environ:
        # RFC 9112, 6.3 lets a server choose; whoever sends both is mistaken or smuggles.
        raise Refused(400, "both Transfer-Encoding and Content-Length")
    if version == b"HTTP/1.0":
        raise Refused(400, "Transfer-Encoding in HTTP/1.0")  # RFC 9112, 6.1: faulty framing


def _fault_of_codings(codings: List[str]) -> Optional[Refused]:
    if not all(TOKEN.fullmatch(coding) for coding in codings):
        return Refused(400, "malformed Transfer-Encoding")
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
        if len(line) > FIELD_MAX_BYTES:
            raise Refused(431, "a field of more than %d bytes" % FIELD_MAX_BYTES)


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
