r"""A line of the access log: what is known of one request, and the format that makes text of it.

A format comes from the daemon taken apart already: texts and directives in turn, as ``["", "h", " ", ">s", ""]``. Here
it becomes one ``%`` template and one function that gives its values. The directives are Apache's
(mod_log_config); docs/reference/access-log.md says what each gives.

Every request of a busy site comes through here, so that function is compiled from a line of source for each
directive, as ``dataclasses`` and ``namedtuple`` do: a list of getters took twice as long. The source is this
module's alone: what somebody wrote in a format is a value, and never evaluated.

What a client sent is escaped as Apache does: a quote or backslash gets a backslash before it, every
character that is no printable ASCII becomes ``\n``, ``\t`` or ``\xHH``. So a line is one line, and a field ends at
its quote. In JSON, bytes that are UTF-8 are read as that.
"""

from __future__ import annotations

import os
import re
import time
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Match, Optional, Sequence, Tuple, Union

from djsup_worker.limits import SECOND_NS
from djsup_worker.request import Fields, Line

if TYPE_CHECKING:
    from djsup_worker.connection import Connection
    from djsup_worker.request import Head
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

Noted = Tuple[Fields, str, str, str]
"""What the application could change before the request is logged: fields, remote address, scheme; and the id."""


class Refusal:
    """A request that was not served, as far as it is known; has what a format reads of a ``Response``."""

    def __init__(self, connection: Connection, status: int, head: Optional[Head], data: bytes) -> None:
        """``head`` when that was understood, else the ``data`` that came."""
        self.wire = connection
        self.status = status
        self.sent = self.head_bytes = 0
        self.began_ns = connection.since_ns
        self.ended_ns = 0
        self.keep = False
        self.environ: Dict[str, Any]
        self.line: Line
        if head is None:
            raw = data[: TEXT_MAX + 1].partition(b"\r\n")[0]
            method, target, version = [*raw.decode("latin-1").split(" ", 2), "", ""][:3]
            said = {"REQUEST_METHOD": method, "RAW_URI": target, "SERVER_PROTOCOL": version}
            head = {}, Line(said, raw, is_head=False, is_http_1_0=False), Fields({})
        self.environ, self.line, fields = head
        self.noted: Noted = (fields, connection.peer_host, connection.base["wsgi.url_scheme"], "")


Entry = Union["Response", Refusal]
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
        self.texts["moment"] = moment = "%04d-%02d-%02dT%s" % (year, month, day, clock)
        self.texts["{iso}t"] = moment + "Z"
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


# --- directives: an expression for each ----------------------------------------------------------

SETTING = """\
def values(entry):
    known, remote, scheme, request_id = entry.noted
    fields = known.environ
    line = entry.line.environ
    environ = entry.environ
    return (%s)
"""
"""Where the expressions stand. ``fields`` is what the client sent, ``environ`` what the application has left."""

LATENCY = "(entry.ended_ns - entry.began_ns)"
RECURRING: Dict[str, str] = {
    "a": "remote",
    "h": "remote",
    "u": 'value if type(value := environ.get("REMOTE_USER")) is str else ""',
    "m": 'line["REQUEST_METHOD"]',
    "H": 'line.get("SERVER_PROTOCOL", "HTTP/1.1")',
    "p": 'entry.wire.base["SERVER_PORT"]',
    # The host of a target in absolute form goes before the field (RFC 9112, 3.2.2).
    "{Host}i": 'line.get("HTTP_HOST") or fields.get("HTTP_HOST", "")',
    "scheme": "scheme",
}
"""Texts that come again and again; they are to be escaped."""
TEXTS: Dict[str, str] = {
    # Without a target it is no request line but what came instead of one, undivided.
    "r": '"%s %s %s" % (line["REQUEST_METHOD"], target, line.get("SERVER_PROTOCOL", "HTTP/1.1"))'
    ' if (target := line["RAW_URI"]) else line["REQUEST_METHOD"]',
    "U": 'line["RAW_URI"].partition("#")[0].partition("?")[0]',
    "L": "request_id",
    "target": 'line["RAW_URI"]',
}
"""Texts that are seldom the same again; they are to be escaped."""
PLAIN: Dict[str, str] = {
    # Empty where there is none, so that a format may join it to the path.
    "q": 'quote("".join(query)) if any(query := line["RAW_URI"].partition("#")[0].partition("?")[1:]) else ""',
    "s": "CLIENT_CLOSED if entry.wire.broken else entry.status",
    ">s": "CLIENT_CLOSED if entry.wire.broken else entry.status",
    "b": "entry.sent - entry.head_bytes or NOTHING",
    "B": "entry.sent - entry.head_bytes",
    "O": "entry.sent",
    "D": LATENCY + " // 1000",
    "T": LATENCY + " // 1_000_000_000",
    "{s}T": LATENCY + " // 1_000_000_000",
    "{ms}T": LATENCY + " // 1_000_000",
    "{us}T": LATENCY + " // 1000",
    "{msec}t": "(entry.ended_ns + clock.offset_ns) // 1_000_000",
    "{usec}t": "(entry.ended_ns + clock.offset_ns) // 1000",
    "X": '"X" if entry.wire.broken else "+" if entry.keep else "-"',
    "millisecond": '"%03d" % ((entry.ended_ns + clock.offset_ns) // 1_000_000 % 1000)',
    "aborted": '"true" if entry.wire.broken else "false"',
}
"""What is not."""
SECONDS = ("t", "{iso}t", "{sec}t", "moment")
"""Times that stay the same for a second; see ``Clock``."""


class Format:
    """A format, compiled. ``render`` makes a line of an entry, its line end included."""

    def __init__(self, pieces: Sequence[str], constants: Dict[str, str], quote: Quote) -> None:
        """``pieces`` are texts and directives in turn; a directive that is not known is a hyphen."""
        self._clock = clock = Clock()
        self._template = ""
        self._parts: List[Tuple[str, bool]] = []
        """Texts, and the directives in SECONDS (True)."""
        self._names: Dict[str, Any] = {
            "quote": quote, "kept": Kept(quote), "clock": clock, "NOTHING": NOTHING, "CLIENT_CLOSED": CLIENT_CLOSED,
        }  # fmt: skip
        source = ""
        for index, piece in enumerate(pieces):
            is_text = index % 2 == 0
            expression = None if is_text else self._expression(piece)
            if expression is not None:
                source += expression + ", "
                self._parts.append(("%s", False))
            elif not is_text and piece in SECONDS:
                self._parts.append((piece, True))
            else:
                text = piece if is_text else constants.get(piece, NOTHING)
                self._parts.append((text.replace("%", "%%"), False))
        self._parts.append(("\n", False))
        exec(SETTING % source, self._names)  # noqa: S102  # see the first lines
        self._values: Callable[[Entry], Tuple[Any, ...]] = self._names["values"]

    def render(self, entry: Entry) -> str:
        """The line."""
        if entry.ended_ns >= self._clock.until_ns:
            self._clock.renew(entry.ended_ns)
            texts = self._clock.texts
            self._template = "".join([texts[part] if timed else part for part, timed in self._parts])
        return self._template % self._values(entry)

    def _expression(self, directive: str) -> Optional[str]:
        """The source of a directive's value; None: it has none, or always the same."""
        if directive in PLAIN:
            return PLAIN[directive]
        if directive in TEXTS:
            return "quote(%s)" % TEXTS[directive]
        if directive in RECURRING:
            return "kept[%s]" % RECURRING[directive]
        name = "name%d" % len(self._names)
        if directive.endswith("}i"):
            self._names[name] = key = header_key(directive[1:-2])
            return "kept[%s]" % (RECURRING["{Host}i"] if key == "HTTP_HOST" else 'fields.get(%s, "")' % name)
        if directive.endswith("}e"):
            self._names[name] = directive[1:-2]
            return 'kept[value if type(value := environ.get(%s)) is str else ""]' % name
        return None


def header_key(name: str) -> str:
    """The environ key of a header."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key


def text_format(pieces: Sequence[str], site: str) -> Format:
    """The format that the daemon has taken apart."""
    return Format(pieces, {"l": NOTHING, "P": str(os.getpid()), "v": site}, quoted)


JSON = (
    ('{"time":"', "moment"), (".", "millisecond"), ('Z","site":', "v"), (',"pid":', "P"),
    (',"request_id":', "L"), (',"remote_addr":', "h"), (',"user":', "u"), (',"scheme":', "scheme"),
    (',"host":', "{Host}i"), (',"method":', "m"), (',"target":', "target"), (',"protocol":', "H"), (',"status":', "s"),
    (',"aborted":', "aborted"), (',"body_bytes":', "B"), (',"total_bytes":', "O"), (',"duration_us":', "D"),
    (',"referer":', "{Referer}i"), (',"user_agent":', "{User-Agent}i"),
)  # fmt: skip


def json_format(site: str) -> Format:
    """One JSON object a line; what is not known is null."""
    pieces = [piece for pair in JSON for piece in pair]
    return Format([*pieces, "}"], {"P": str(os.getpid()), "v": json_quoted(site)}, json_quoted)
