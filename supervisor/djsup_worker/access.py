"""The access log of one worker: lines in a buffer, written whole and many at a time, straight to the file.

The daemon opens the file and sends its descriptor, for the worker may not be able to; another one comes
when the files are opened again. Several workers write to one file: it is opened with O_APPEND, and each
write(2) is of whole lines, so lines stay whole. What cannot be written is dropped and counted: a full disk
costs lines, and never an answer.

Everything here is for the thread that polls.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence, Tuple

from djsup_worker.access_format import Format, Refusal, json_format, text_format
from djsup_worker.limits import SECOND_NS
from djsup_worker.messages import AccessLog, AccessLogTrouble
from djsup_worker.request_id import RequestIds

if TYPE_CHECKING:
    from djsup_worker.access_format import Entry
    from djsup_worker.connection import Connection
    from djsup_worker.loop import Loop
    from djsup_worker.messages import Message
    from djsup_worker.request import Fields, Head
    from djsup_worker.wsgi import Response

BUFFER_CHARS = 32 * 1024
"""So much is written at once, as soon as it is there."""
FLUSH_NS = SECOND_NS
"""A line waits no longer than this, while the worker polls."""
FAILED = 400
"""From this status on a request is logged though its path is excluded."""


class Access:
    """What a worker writes down of its requests, and the ids that it gives them."""

    def __init__(self, loop: Loop, tell: Callable[[Message], None]) -> None:
        """``tell`` sends a message to the daemon."""
        self._loop = loop
        self._tell = tell
        self._fd: Optional[int] = None
        self._format: Optional[Format] = None
        self._lines: List[str] = []
        self._size = 0
        self._due = False
        self._trouble = ""
        self._dropped = 0
        self._torn = False
        """Whether the last write ended in the middle of a line."""
        self._excluded: frozenset[str] = frozenset()
        self._excluded_below: Tuple[str, ...] = ()
        self._excludes = False
        self.ids = RequestIds()
        self._identifies = self._responds = False

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do for a request."""
        return self._format is not None or self._identifies

    def change(self, told: AccessLog, fd: Optional[int]) -> None:
        """Do as the daemon says from now on; without a file nothing is written. Owns the descriptor."""
        self.close()
        self._fd = fd
        self._format = None
        if fd is not None:
            site = self._loop.site
            self._format = json_format(site) if told.style == "json" else text_format(told.pieces, site)
        logs_ids = fd is not None and (told.style == "json" or "L" in told.pieces[1::2])
        self._identifies = logs_ids or told.request_id != "off"
        self._responds = told.request_id == "respond"
        self._excluded, self._excluded_below = _split(told.exclude)
        self._excludes = bool(told.exclude)

    def close(self) -> None:
        """Write what waits, and let the file go."""
        self.flush()
        self._torn = False
        if self._dropped:
            self._say(self._trouble)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    # --- requests ---

    def note(self, response: Response, fields: Fields, peer_host: str) -> None:
        """A request is about to be run: keep what the application may change, give it its id."""
        environ = response.environ
        request_id = ""
        if self._identifies:
            request_id = self.ids.mark(environ, peer_host)
            if self._responds:
                response.id_line = b"X-Request-ID: %s\r\n" % request_id.encode()
        response.noted = (fields, environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], request_id)

    def record(self, entry: Entry, now_ns: int) -> None:
        """A request has ended."""
        if entry.noted is None or self._format is None:
            return  # it began before there was a log
        if self._excludes and entry.status < FAILED and self._is_excluded(entry.line.environ["PATH_INFO"]):
            return
        entry.ended_ns = now_ns
        line = self._format.render(entry)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= BUFFER_CHARS:
            self.flush()
        elif not self._due:
            self._due = True
            self._loop.at(now_ns + FLUSH_NS, self._flush_in_time)

    def refused(
        self, connection: Connection, status: int, head: Optional[Head], data: bytes, answer: bytes
    ) -> None:
        """A request was not served: ``head`` when that was understood, else the ``data`` that came."""
        if self._format is None or not (head or data):
            return
        refusal = Refusal(connection, status, head, data)
        refusal.sent = len(answer)
        refusal.head_bytes = refusal.sent - len(answer.partition(b"\r\n\r\n")[2])
        self.record(refusal, time.monotonic_ns())

    def cut(self, connection: Connection) -> None:
        """A connection ends, and with it the request that it has, if any."""
        if connection.response is not None:
            connection.broken = True
            self.record(connection.response, time.monotonic_ns())

    def _is_excluded(self, path: str) -> bool:
        return path in self._excluded or path.startswith(self._excluded_below)

    # --- writing ---

    def _flush_in_time(self) -> None:
        self._due = False
        self.flush()

    def flush(self) -> None:
        """Write what waits; what cannot be written is lost."""
        lines = self._lines
        if not lines or self._fd is None:
            return
        self._lines = []
        self._size = 0
        data = "".join(lines).encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            written = len(data) - len(left)
            if written:
                self._torn = data[written - 1 : written] != b"\n"
            self._lost(left, os.strerror(error.errno or 0))
            return
        self._torn = False
        if self._trouble:
            self._trouble = ""
            self._say("")

    def _lost(self, rest: memoryview, why: str) -> None:
        self._dropped += bytes(rest).count(b"\n")
        if why != self._trouble:
            self._trouble = why
            self._say(why)

    def _say(self, error: str) -> None:
        self._tell(AccessLogTrouble(error=error, dropped=self._dropped))
        self._dropped = 0


def _split(excluded: Sequence[str]) -> Tuple[frozenset[str], Tuple[str, ...]]:
    """Whole paths, and the beginnings of those that end with a star. As environ has them: a byte a character."""
    paths = [each.encode("utf-8", "replace").decode("latin-1") for each in excluded]
    return (
        frozenset(each for each in paths if not each.endswith("*")),
        tuple(each[:-1] for each in paths if each.endswith("*")),
    )
