"""One call of the application: PEP 3333 from ``start_response`` to ``close()``.

A response runs in turns. It pauses when the client does not take what is there, and goes on in the
thread that began it: a framework's database connections belong to threads. It never raises; what the
application does wrong is said on standard error and ends as a 500 or as a cut connection.

Speaks to its client through a ``Wire``; who that is, and when a turn comes, is ``connection``'s affair.
"""

from __future__ import annotations

import re
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Tuple

from djsup_worker.files import FileWrapper
from djsup_worker.refusal import answer

if TYPE_CHECKING:
    from types import TracebackType

    from djsup_worker.access_format import Noted
    from djsup_worker.application import Application
    from djsup_worker.request import Line

    ExcInfo = Tuple[type, BaseException, Optional[TracebackType]]

HIGH_WATER_BYTES = 256 * 1024
"""A response pauses while more than this waits for the client."""
TURN_BYTES = 2 * 1024 * 1024
"""A response that sent this much lets the others have a turn,"""
TURN_NS = 5_000_000
"""and one whose iterable took this long."""
SENDFILE_BYTES = 1024 * 1024
"""The most for one call of sendfile(2)."""
JOIN_BYTES = 64 * 1024
"""A body up to this is copied to travel with its head in one packet."""
KEPT_MAX = 1024
"""Status lines and header lines that are remembered as right, for applications send the same ones again."""
VALUE_KEPT_MAX = 64

STATUS = re.compile(r"[2-5][0-9][0-9](?: [\t -~\x80-\xff]*)?")
VALUE = re.compile(r"[\t -~\x80-\xff]*")  # RFC 9110, 5.5; as PEP 3333 has it, one character is one byte
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

BODILESS = (204, 304)
"""Statuses whose answers have no body (RFC 9110, 15.3.5 and 15.4.5)."""
NO_CONTENT, RESET_CONTENT = 204, 205
ORDINARY, IS_DATE = -1, -2
HOP_BY_HOP = frozenset(
    # RFC 9110, 7.6.1, and PEP 3333, "Other HTTP Features": these are the server's to send.
    (
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip

HeaderLine = Tuple[bytes, int]
"""A header as it is sent, and what a Content-Length says, else ORDINARY or IS_DATE."""
_lines: Dict[Tuple[str, str], HeaderLine] = {}
_status_lines: Dict[str, Tuple[int, bytes]] = {}

Headers = List[Tuple[str, str]]

_monotonic_ns = time.monotonic_ns


class WsgiViolation(Exception):
    """The application broke PEP 3333 or HTTP."""


class Wire:
    """What a response needs of its connection. Documents the protocol; ``Connection`` is the one there is."""

    __slots__ = ()

    site: str
    """The site's name, for what is said on standard error."""
    broken: bool
    """The client is gone, or has been given up: nothing can be sent."""
    unsent: int
    """Bytes that wait for the client."""

    def transmit(self, data: bytes) -> None:
        """Send, and keep what the kernel does not take."""
        raise NotImplementedError

    def send_file(self, fd: int, offset: int, count: int) -> Optional[int]:
        """Send from a file; gives the bytes sent, 0 at the file's end, None when the kernel takes none now."""
        raise NotImplementedError

    def wait_writable(self) -> None:
        """Wait until less than HIGH_WATER_BYTES are unsent, or the client is given up."""
        raise NotImplementedError


class Response:
    """The answer to one request."""

    # Set by what few responses need; a class attribute costs the others nothing.
    status = 0
    sent = 0
    """Bytes given to the connection, heads included."""
    done = False
    why_aside: Optional[str] = None
    """Of a call that ended without the polling role: why, as ``crew`` has it; None once that is noted."""
    head_bytes = 0
    """Those of them that are the head."""
    ended_ns = 0
    noted: Optional[Noted] = None
    """What the access log keeps of the request, for the application may change its environ."""
    id_line = b""
    """The header that tells the client the request's id, if it is to be told."""
    _head_sent = False
    _says_length: Optional[int] = None
    _left: Optional[int] = None
    """Bytes of the body still promised by Content-Length; None: no promise."""
    _chunked = False
    _no_body = False
    _result: Any = None
    _iterator: Optional[Iterator[bytes]] = None
    _file: Optional[Tuple[int, int, int]] = None

    def __init__(
        self,
        wire: Wire,
        environ: Dict[str, Any],
        line: Line,
        date_line: bytes,
        began_ns: int,
        hand: Any,
        keep: bool,
    ) -> None:
        self.wire = wire
        self.environ = environ
        # What the request was, for a middleware may change its environ.
        self.line = line
        self.date_line = date_line
        self.began_ns = began_ns
        self.hand = hand
        """The thread that began it, and alone goes on with it."""
        self.keep = keep
        """Whether the connection can serve another request after this one."""

    # --- what the application is given ---

    def start_response(
        self, status: str, headers: Headers, exc_info: Optional[ExcInfo] = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's ``start_response``.

        Raises:
            WsgiViolation: it was called before, or a status or header is not one that may be sent.
        """
        if exc_info is not None:
            try:
                if self._head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status:
            raise WsgiViolation("start_response was called twice")
        code, line = _status_lines.get(status) or _new_status(status)
        head = [line]
        length: Optional[int] = None
        dated = False
        for pair in headers:
            line, number = _lines.get(pair) or _new_line(pair)
            if number < 0:
                dated = dated or number == IS_DATE
            elif length is None and code != NO_CONTENT:  # RFC 9110, 8.6
                length = number
            elif length == number or code == NO_CONTENT:
                continue
            else:
                raise WsgiViolation("two different Content-Length headers")
            head.append(line)
        if not dated:
            head.append(self.date_line)
        if self.id_line and not any(each[:13].lower() == b"x-request-id:" for each in head):
            head.append(self.id_line)
        self._head = head
        self._says_length = length
        self.status = code
        if code == RESET_CONTENT:
            self._promise_nothing()
        elif code in BODILESS or self.line.is_head:
            self._no_body = True
        elif self._no_body:
            self._no_body = False  # it was another status's, which an error has replaced
        return self.write

    def _promise_nothing(self) -> None:
        """A 205 has an empty body, and says so (RFC 9110, 15.3.6)."""
        if self._says_length:
            raise WsgiViolation("a 205 with a body")
        if self._says_length is None:
            self._head.append(b"Content-Length: 0\r\n")
        self._says_length = 0
        self._no_body = True

    def write(self, data: bytes) -> None:
        """PEP 3333's ``write``: waits where an iterable would pause."""
        if not self._head_sent or data:
            self._send(data, last=False)
        if self.wire.unsent > HIGH_WATER_BYTES:
            self.wire.wait_writable()

    # --- turns ---

    def begin(self, application: Application) -> None:
        """Call the application, and send what it gives until that is all or the client is slow."""
        try:
            result = application(self.environ, self.start_response)
            kind = type(result)
            if (kind is list or kind is tuple) and len(result) == 1:  # type: ignore[arg-type]
                self._send(result[0], last=True)  # type: ignore[index]
                if self._chunked or self._left:
                    self._end()
                self.done = True
                return
            self._result = result
            if kind is FileWrapper and self._begin_file(result):  # type: ignore[arg-type]
                self.go_on()
                return
            self._iterator = iter(result)
        except BaseException as error:  # noqa: BLE001  # a request must not end the worker, whatever it raises
            self._fail(error)
            return
        self.go_on()

    def go_on(self) -> None:
        """Send more, from where it paused."""
        try:
            if not self.wire.broken:
                if not (self._turn_of_file() if self._file is not None else self._turn()):
                    return
                self._end()
            self._close_result()
            self.done = True
        except BaseException as error:  # noqa: BLE001  # as in begin
            self._fail(error)

    def _turn(self) -> bool:
        """One turn of an iterable; whether it has ended."""
        wire = self.wire
        enough = self.sent + TURN_BYTES
        until_ns = _monotonic_ns() + TURN_NS
        iterator = self._iterator
        assert iterator is not None
        for data in iterator:
            if data or not self._head_sent:
                if not data:
                    continue  # PEP 3333: the head goes with the first block that is not empty
                self._send(data, last=False)
                if wire.broken:
                    return True
                if wire.unsent > HIGH_WATER_BYTES or self.sent > enough or _monotonic_ns() > until_ns:
                    return False
        return True

    def _begin_file(self, wrapper: FileWrapper) -> bool:
        """Whether the file can be sent by the kernel; the head is out then."""
        if not self.status or self._head_sent:
            return False
        found = wrapper.regular_file()
        if found is None:
            return False
        fd, position, there = found
        promised = self._says_length
        if promised is None and self.status not in BODILESS:
            self._says_length = there
            self._head.append(b"Content-Length: %d\r\n" % there)
        count = there if promised is None else min(there, promised)
        self._send(b"", last=False)
        if self._no_body:
            count = 0
        self._file = (fd, position, count)
        return True

    def _turn_of_file(self) -> bool:
        assert self._file is not None
        fd, position, left = self._file
        wire = self.wire
        enough = self.sent + TURN_BYTES
        while left:
            if wire.unsent:
                return False  # the head, or what it shares the socket with, comes first
            count = wire.send_file(fd, position, min(left, SENDFILE_BYTES))
            if wire.broken:
                return True
            if count is None:
                return False
            if count == 0:
                break  # somebody made the file shorter
            position += count
            left -= count
            self.sent += count
            if self._left is not None:
                self._left -= count
            self._file = (fd, position, left)
            if left and self.sent > enough:
                return False
        return True

    # --- bytes ---

    def _send(self, data: bytes, *, last: bool) -> None:
        """Send a piece of the body, after the head if that is not out; ``last``: there is no other piece."""
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._head_sent:
            self._send_more(data)
            return
        status = self.status
        if not status:
            raise WsgiViolation("a body without start_response")
        head = self._head
        size = len(data)
        length = self._says_length
        if self._no_body:
            if last and length is None and status not in BODILESS:
                head.append(b"Content-Length: %d\r\n" % size)
            data = b""
        elif length is not None:
            if size <= length:
                self._left = length - size
            else:
                self._left = 0
                data = data[:length]
                self._too_long()
        elif last:
            head.append(b"Content-Length: %d\r\n" % size)
        elif self.line.is_http_1_0:
            self.keep = False  # RFC 9112, 6.3: the end of the connection ends the body
        else:
            self._chunked = True
            head.append(b"Transfer-Encoding: chunked\r\n")
            data = b"%x\r\n%b\r\n" % (size, data) if data else b""
        if not self.keep:
            head.append(b"Connection: close\r\n\r\n")
        elif self.line.is_http_1_0:
            head.append(b"Connection: keep-alive\r\n\r\n")
        else:
            head.append(b"\r\n")
        self._head_sent = True
        body_bytes = len(data)
        if body_bytes <= JOIN_BYTES:
            head.append(data)
            data = b""
        packet = b"".join(head)
        self.sent += len(packet) + len(data)
        self.head_bytes = self.sent - body_bytes
        self.wire.transmit(packet)
        if data:
            self.wire.transmit(data)

    def _send_more(self, data: bytes) -> None:
        if self._no_body or not data:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._left is not None:
            left = self._left - len(data)
            if left < 0:
                data = data[: self._left]
                left = 0
                self._too_long()
            self._left = left
        self.sent += len(data)
        if data:
            self.wire.transmit(data)

    def _too_long(self) -> None:
        if self.keep:
            self.complain(
                "the response is longer than its Content-Length; it was cut, and the connection closed"
            )
        self.keep = False

    # --- the end ---

    def _end(self) -> None:
        """Everything was said: end the body's framing."""
        if not self._head_sent:
            self._send(b"", last=True)
        if self._chunked:
            self.sent += 5
            self.wire.transmit(b"0\r\n\r\n")
        elif self._left and not self._no_body:
            if not self.wire.broken:
                self.complain(
                    "the response is %d bytes shorter than its Content-Length; the connection was closed"
                    % self._left
                )
            self.keep = False

    def _close_result(self) -> None:
        """PEP 3333: close() is called however the response ended. What it raises harms no client."""
        result, self._result, self._iterator = self._result, None, None
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001  # as in begin
            self.complain(describe(error))

    def _fail(self, error: BaseException) -> None:
        """The application raised: answer 500 if nothing was sent, else cut the connection."""
        self.done = True
        self.keep = False
        self._chunked = False
        self.complain(describe(error))
        self._close_result()
        if not self._head_sent:
            self._head_sent = True
            self.status = 500
            data = answer(500, "", self.date_line + self.id_line, body=not self.line.is_head)
            self.sent += len(data)
            self.head_bytes = self.sent - len(data.partition(b"\r\n\r\n")[2])
            self.wire.transmit(data)

    def complain(self, text: str) -> None:
        """Say something about this request on standard error."""
        complain(self.wire.site, "%s: %s" % (self.line.what.decode("latin-1"), text))


def complain(site: str, text: str) -> None:
    """Write to standard error, named; standard error itself may be broken."""
    try:
        sys.stderr.write('site "%s": %s\n' % (site, text.rstrip("\n")))
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def describe(error: BaseException) -> str:
    """The traceback of what an application raised."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def base_environ(scheme: str, *, multithread: bool, errors: Any) -> Dict[str, Any]:
    """What every request's environ begins with; the listener adds its address."""
    return {
        # What each request has a value of its own for stands here already: so a copy never grows.
        **dict.fromkeys(
            (
                "REQUEST_METHOD",
                "PATH_INFO",
                "QUERY_STRING",
                "REQUEST_URI",
                "RAW_URI",
                "REMOTE_ADDR",
                "REMOTE_PORT",
            ),
            "",
        ),
        "wsgi.input": None,
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "djsup",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.errors": errors,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.input_terminated": True,
    }


def _new_status(status: str) -> Tuple[int, bytes]:
    if not isinstance(status, str) or not STATUS.fullmatch(status):
        raise WsgiViolation("%r is no status" % (status,))
    known = (int(status[:3]), ("HTTP/1.1 %s %s\r\n" % (status[:3], status[4:])).encode("latin-1"))
    if len(_status_lines) < KEPT_MAX:
        _status_lines[status] = known
    return known


def _new_line(pair: Tuple[str, str]) -> HeaderLine:
    """Check a header, and remember it if it is one that comes again."""
    name, value = pair
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise WsgiViolation("%r is no header name" % (name,))
    if not isinstance(value, str) or not VALUE.fullmatch(value):
        raise WsgiViolation("%r is no value for the header %s" % (value, name))
    lower = name.lower()
    if lower in HOP_BY_HOP:
        raise WsgiViolation("the header %s is the server's to send" % name)
    line = ("%s: %s\r\n" % (name, value)).encode("latin-1")
    number = IS_DATE if lower == "date" else ORDINARY
    if lower == "content-length":
        if not (value.isascii() and value.isdigit()):
            raise WsgiViolation("%r is no Content-Length" % (value,))
        number = int(value)
    if len(value) <= VALUE_KEPT_MAX:
        if len(_lines) >= KEPT_MAX:
            _lines.clear()
        _lines[name, value] = (line, number)
    return line, number


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise WsgiViolation("a body block is %s, not bytes" % type(data).__name__)
