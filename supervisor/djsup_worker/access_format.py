r"""A line of the access log: what is known of one request, and the format that makes text of it.

A format comes from the daemon taken apart already: texts and directives in turn, as ``["", "h", " ", ">s", ""]``. Here
it becomes one ``%`` template and a list of getters; nothing of it is ever evaluated. The directives are
Apache's (mod_log_config); docs/reference/access-log.md says what each gives.

What a client sent is escaped as Apache does: a quote or backslash gets a backslash before it, every
character that is no printable ASCII becomes ``\n``, ``\t`` or ``\xHH``. So a line is one line, and a field ends at
its quote. In JSON, bytes that are UTF-8 are read as that.

Every request of a busy site comes through here, so a getter is one call and looks its text up inline.
"""

from __future__ import annotations

import os
import re
import time
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Match, Optional, Sequence, Tuple, Union

from djsup_worker.limits import SECOND_NS

if TYPE_CHECKING:
    from djsup_worker.connection import Connection
    from djsup_worker.request import Fields, Head, Line
    from djsup_worker.wsgi import Response

TEXT_MAX = 8 * 1024
"""The longest text of a client's in a line, in characters before they are escaped; the rest is cut."""
KEPT_MAX = 1024
KEPT_TEXT_MAX = 256
"""Texts that are remembered as escaped already: clients send the same ones again."""
CLIENT_CLOSED = 499
"""The status of a request whose client went away before it had its answer, as nginx has it."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Not strftime's: the application may have set a locale."""
ODD = re.compile(r"[^ !#-\[\]-~]")
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
NOTHING = "-"
BYTES = 0x100

Noted = Tuple["Fields", str, str, str]
"""What the application could change before the request is logged: fields, remote address, scheme; and the id."""


class Refusal:
    """A request that was not served, as far as it is known; has what the getters read of a ``Response``."""

    def __init__(self, connection: Connection, status: int, head: Optional[Head], data: bytes) -> None:
        """``head`` when that was understood, else the ``data`` that came."""
        self.wire = connection
        self.status = status
        self.sent = self.head_bytes = 0
        self.began_ns = connection.since_ns
        self.ended_ns = 0
        self.keep = False
        self.environ: Dict[str, Any] = {}
        self.line: Optional[Line] = None
        self.noted: Optional[Noted] = None
        if head is not None:
            self.environ, self.line, fields = head
            self.noted = (fields, connection.peer_host, connection.base["wsgi.url_scheme"], "")
        self.raw_line = data[: TEXT_MAX + 1].partition(b"\r\n")[0].decode("latin-1")


Entry = Union["Response", Refusal]
Text = Callable[[Any], str]
Getter = Callable[[Any], Any]
"""Gives something for ``%s`` of an Entry, escaped already. (Any: mypy would look an attribute up in each kind.)"""
Quote = Callable[[str], str]


class Clock:
    """The time of day as lines show it, made once a second. UTC: the same for all sites, whatever their time zone."""

    def __init__(self) -> None:
        self.until_ns = 0
        """When it is to be renewed, by the monotonic clock."""
        self.offset_ns = 0
        """What the monotonic clock is behind the time of day."""
        self.texts: Dict[str, str] = {}
        """What stays the same for a second, by directive."""

    def renew(self, now_ns: int) -> None:
        """Make the texts of this second."""
        wall_ns = time.time_ns()
        second, rest_ns = divmod(wall_ns, SECOND_NS)
        self.offset_ns = wall_ns - now_ns
        self.until_ns = now_ns + SECOND_NS - rest_ns
        year, month, day, hour, minute, sec = time.gmtime(second)[:6]
        clock = "%02d:%02d:%02d" % (hour, minute, sec)
        self.texts["t"] = "[%02d/%s/%04d:%s +0000]" % (day, MONTHS[month - 1], year, clock)
        self.texts["{iso}t"] = "%04d-%02d-%02dT%sZ" % (year, month, day, clock)
        self.texts["{sec}t"] = str(second)


# --- escaping ----------------------------------------------------------------------------------


def _escape(found: Match[str]) -> str:
    char = found.group()
    short = SHORT.get(char)
    if short is not None:
        return short
    code = ord(char)
    if code < BYTES:  # one character is one byte
        return "\\x%02x" % code
    return "".join("\\x%02x" % byte for byte in char.encode("utf-8", "surrogatepass"))


def quoted(text: str) -> str:
    """A text as Apache writes it between quotes; an empty one is ``-``."""
    if len(text) > TEXT_MAX:
        text = text[:TEXT_MAX]
    if text.isprintable() and text.isascii() and '"' not in text and "\\" not in text:
        return text or NOTHING
    return ODD.sub(_escape, text)


def json_quoted(text: str) -> str:
    """A text of bytes as a JSON string, with its quotes; an empty one is null."""
    if not text:
        return "null"
    if not text.isascii():
        try:
            text = text.encode("latin-1").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # the application's own, no bytes
            text = text.encode("utf-8", "backslashreplace").decode()
    return encode_basestring_ascii(text[:TEXT_MAX])


class Kept(Dict[str, str]):
    """Texts that come again and again, as ``quote`` escapes them. Read it as ``kept[text]``."""

    def __init__(self, quote: Quote) -> None:
        super().__init__()
        self._quote = quote

    def __missing__(self, text: str) -> str:
        found = self._quote(text)
        if len(text) <= KEPT_TEXT_MAX:
            if len(self) >= KEPT_MAX:
                self.clear()
            self[text] = found
        return found


# --- getters -----------------------------------------------------------------------------------


def _request_line(quote: Quote, _kept: Kept) -> Text:
    """Method, target as it was sent, and version."""

    def request_line(entry: Any) -> str:
        line = entry.line
        if line is None:
            return quote(entry.raw_line)
        said = line.environ
        version = said.get("SERVER_PROTOCOL", "HTTP/1.1")
        return quote("%s %s %s" % (said["REQUEST_METHOD"], said["RAW_URI"], version))

    return request_line


def _part(key: str, cut: Callable[[str], str] = str) -> Callable[[Quote, Kept], Text]:
    """A part of the request line."""
    at = {"REQUEST_METHOD": 0, "RAW_URI": 1, "SERVER_PROTOCOL": 2}[key]

    def make(quote: Quote, _kept: Kept) -> Text:
        def part(entry: Any) -> str:
            if entry.line is not None:
                return quote(cut(entry.line.environ.get(key, "HTTP/1.1")))  # only the version may be missing
            parts = entry.raw_line.split(" ")
            return quote(cut(parts[at]) if len(parts) == 3 else "")  # noqa: PLR2004  # as a request line has

        return part

    return make


def _empty_where_nothing(get: Text) -> Text:
    """So that a format may join it to what stands before it."""
    return lambda entry: "" if (text := get(entry)) == NOTHING else text


def _path(target: str) -> str:
    return target.partition("#")[0].partition("?")[0]


def _query(target: str) -> str:
    return "".join(target.partition("#")[0].partition("?")[1:])


def _header(name: str) -> Callable[[Quote, Kept], Text]:
    """What the client sent in a header."""
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = "HTTP_" + key

    def make(_quote: Quote, kept: Kept) -> Text:
        def header(entry: Any) -> str:
            if entry.noted is None:
                return kept[""]
            return kept[entry.noted[0].environ.get(key, "")]

        return header

    return make


def _host(_quote: Quote, kept: Kept) -> Text:
    """The Host header, or the host of a target in absolute form, which goes before it (RFC 9112, 3.2.2)."""

    def host(entry: Any) -> str:
        if entry.noted is None:
            return kept[""]
        return kept[entry.line.environ.get("HTTP_HOST") or entry.noted[0].environ.get("HTTP_HOST", "")]

    return host


def _of_environ(name: str) -> Callable[[Quote, Kept], Text]:
    """What the application left in its environ, if that is a text."""

    def make(_quote: Quote, kept: Kept) -> Text:
        nothing = kept[""]

        def of_environ(entry: Any) -> str:
            value = entry.environ.get(name)
            return kept[value] if type(value) is str else nothing

        return of_environ

    return make


def _remote(_quote: Quote, kept: Kept) -> Text:
    def remote(entry: Any) -> str:
        return kept[entry.wire.peer_host if entry.noted is None else entry.noted[1]]

    return remote


def _scheme(_quote: Quote, kept: Kept) -> Text:
    def scheme(entry: Any) -> str:
        return kept[entry.wire.base["wsgi.url_scheme"] if entry.noted is None else entry.noted[2]]

    return scheme


def _request_id(quote: Quote, _kept: Kept) -> Text:
    def request_id(entry: Any) -> str:
        return quote("" if entry.noted is None else entry.noted[3])

    return request_id


TEXTS: Dict[str, Callable[[Quote, Kept], Text]] = {
    "r": _request_line,
    "m": _part("REQUEST_METHOD"),
    "U": _part("RAW_URI", _path),
    "q": lambda quote, kept: _empty_where_nothing(_part("RAW_URI", _query)(quote, kept)),
    "H": _part("SERVER_PROTOCOL"),
    "a": _remote,
    "h": _remote,
    "u": _of_environ("REMOTE_USER"),
    "L": _request_id,
    "p": lambda _quote, kept: lambda entry: kept[entry.wire.base["SERVER_PORT"]],
    "{Host}i": _host,
}
"""What is escaped; made for a way to do so."""


def _status(entry: Any) -> int:
    return CLIENT_CLOSED if entry.wire.broken else entry.status


def _state(entry: Any) -> str:
    return "X" if entry.wire.broken else "+" if entry.keep else "-"


NUMBERS: Dict[str, Getter] = {
    "s": _status,
    ">s": _status,
    "b": lambda entry: entry.sent - entry.head_bytes or NOTHING,
    "B": lambda entry: entry.sent - entry.head_bytes,
    "O": lambda entry: entry.sent,
    "D": lambda entry: (entry.ended_ns - entry.began_ns) // 1000,
    "T": lambda entry: (entry.ended_ns - entry.began_ns) // SECOND_NS,
    "{s}T": lambda entry: (entry.ended_ns - entry.began_ns) // SECOND_NS,
    "{ms}T": lambda entry: (entry.ended_ns - entry.began_ns) // 1_000_000,
    "{us}T": lambda entry: (entry.ended_ns - entry.began_ns) // 1000,
    "X": _state,
}
"""What is not."""


def _since_epoch(clock: Clock, unit_ns: int) -> Getter:
    return lambda entry: (entry.ended_ns + clock.offset_ns) // unit_ns


FINER: Dict[str, Callable[[Clock], Getter]] = {
    "{msec}t": lambda clock: _since_epoch(clock, 1_000_000),
    "{usec}t": lambda clock: _since_epoch(clock, 1000),
}
"""Times that are another for every request."""
SECONDS = ("t", "{iso}t", "{sec}t")
"""Times that stay the same for a second; see ``Clock``."""
CONSTANT = ("l", "P", "v")
"""What is the same in every line of a worker."""


# --- formats -----------------------------------------------------------------------------------


class Format:
    """A format, compiled. ``render`` makes a line of an entry, its line end included."""

    def __init__(self, parts: Sequence[Union[str, Getter]], clock: Clock) -> None:
        """Texts as they are, and getters. A text that is one of SECONDS, and no other, stands for that time."""
        self._parts = [*parts, "\n"]
        self._clock = clock
        self._template = ""
        self._getters = [part for part in parts if not isinstance(part, str)]

    def render(self, entry: Entry) -> str:
        """The line."""
        clock = self._clock
        if entry.ended_ns >= clock.until_ns:
            clock.renew(entry.ended_ns)
            self._template = "".join([self._piece(part) for part in self._parts])
        return self._template % tuple([get(entry) for get in self._getters])

    def _piece(self, part: Union[str, Getter]) -> str:
        if not isinstance(part, str):
            return "%s"
        text = self._clock.texts[part[1:]] if part[:1] == "\0" else part
        return text.replace("%", "%%")


def text_format(pieces: Sequence[str], site: str) -> Format:
    """The format of texts and directives in turn. A directive that is not known gives ``-``."""
    clock, kept = Clock(), Kept(quoted)
    constants = {"l": NOTHING, "P": str(os.getpid()), "v": site}
    parts: List[Union[str, Getter]] = []
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            parts.append(piece.replace("\0", ""))
        elif piece in constants:
            parts.append(constants[piece])
        elif piece in SECONDS:
            parts.append("\0" + piece)
        else:
            parts.append(_getter(piece, clock, kept) or NOTHING)
    return Format(parts, clock)


def _getter(directive: str, clock: Clock, kept: Kept) -> Optional[Getter]:
    if directive in NUMBERS:
        return NUMBERS[directive]
    if directive in FINER:
        return FINER[directive](clock)
    if directive in TEXTS:
        return TEXTS[directive](quoted, kept)
    if directive.startswith("{") and directive.endswith(("}i", "}e")):
        name = directive[1:-2]
        of = _of_environ(name) if directive[-1] == "e" else _host if name.lower() == "host" else _header(name)
        return of(quoted, kept)
    return None


def json_format(site: str) -> Format:
    """One JSON object a line; what is not known is null."""
    clock, kept = Clock(), Kept(json_quoted)
    milliseconds = FINER["{msec}t"](clock)
    fields: Dict[str, Union[str, Getter]] = {
        "time": lambda entry: '"%s.%03dZ"' % (clock.texts["{iso}t"][:-1], milliseconds(entry) % 1000),
        "site": json_quoted(site),
        "pid": str(os.getpid()),
        "request_id": _request_id(json_quoted, kept),
        "remote_addr": _remote(json_quoted, kept),
        "user": TEXTS["u"](json_quoted, kept),
        "scheme": _scheme(json_quoted, kept),
        "host": _host(json_quoted, kept),
        "method": TEXTS["m"](kept.__getitem__, kept),
        "target": _part("RAW_URI")(json_quoted, kept),
        "protocol": TEXTS["H"](kept.__getitem__, kept),
        "status": _status,
        "aborted": lambda entry: "true" if entry.wire.broken else "false",
        "body_bytes": NUMBERS["B"],
        "total_bytes": NUMBERS["O"],
        "duration_us": NUMBERS["D"],
        "referer": _header("Referer")(json_quoted, kept),
        "user_agent": _header("User-Agent")(json_quoted, kept),
    }
    parts: List[Union[str, Getter]] = []
    for name, part in fields.items():
        parts += ['%s"%s":' % ("," if parts else "{", name), part]
    return Format([*parts, "}"], clock)
