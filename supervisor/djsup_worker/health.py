"""The health question: a new worker asks itself, through the same path that every request takes.

One end of a socketpair is served by the worker's own loop like any client's connection; this end
writes the bytes of a request and reads the bytes of the answer.
"""

from __future__ import annotations

import select
import socket
import sys
from typing import TYPE_CHECKING, Any, Callable, List, Optional

from djsup_worker.connection import Connection
from djsup_worker.messages import shorten
from djsup_worker.wsgi import describe

if TYPE_CHECKING:
    from djsup_worker.loop import Loop

ANSWER_MAX_BYTES = 64 * 1024
SHOWN_MAX_BYTES = 4 * 1024
"""How much of an unexpected answer is shown to the operator."""


class Inquiry(Connection):
    """The connection of a question. It counts for nothing: no client has asked."""

    __slots__ = ()
    counts = False


class HealthQuestion:
    """One question to the worker's own application. ``answered(error, details)`` is called once; error None: well."""

    def __init__(
        self,
        loop: Loop,
        path: str,
        host: str,
        expect: int,
        answered: Callable[[Optional[str], str], None],
        scheme: str = "http",
    ) -> None:
        self._loop = loop
        self._path = path
        self._host = host
        self._expect = expect
        self._answered = answered
        self._scheme = scheme
        """What the application takes the question for: a site that redirects http would answer no other."""
        self._data = b""
        self._tracebacks: List[str] = []
        self._forget_signal: Callable[[], Any] = lambda: None
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)

    def ask(self) -> None:
        """Send the question; the answer comes through the loop."""
        self._forget_signal = _hear_django(self._tracebacks)
        self._loop.add(self._theirs, ("", ""), ("127.0.0.1", "0"), Inquiry, self._scheme).movable = False
        self._loop.watch(self._ours.fileno(), select.EPOLLIN, self._ready)
        self._ours.send(
            (
                "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: djsup-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
                % (self._path, self._host)
            ).encode("latin-1", "replace")
        )

    def _ready(self, _mask: int) -> None:
        try:
            data = self._ours.recv(ANSWER_MAX_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        if data and len(self._data) < ANSWER_MAX_BYTES:
            return
        self._loop.unwatch(self._ours.fileno())
        self._ours.close()
        self._forget_signal()
        self._judge()

    def _judge(self) -> None:
        head, _, body = self._data.partition(b"\r\n\r\n")
        parts = head.split(b"\r\n")[0].decode("latin-1").split(" ", 2)
        status = parts[1] if len(parts) > 1 else ""
        if status == str(self._expect):
            self._answered(None, "")
            return
        if not status:
            error = "the health path %s got no answer, %d is expected" % (self._path, self._expect)
        else:
            error = "the health path %s answered %s, %d is expected" % (
                self._path,
                " ".join(parts[1:]),
                self._expect,
            )
        details = "".join(self._tracebacks) or body[:SHOWN_MAX_BYTES].decode("utf-8", "replace")
        self._answered(error, shorten(details))


def _hear_django(tracebacks: List[str]) -> Callable[[], Any]:
    """Collect the tracebacks of exceptions that Django turns into a 500; gives what ends it."""
    signals = sys.modules.get("django.core.signals")
    if signals is None:
        return lambda: None

    def heard(**_named: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None:
            tracebacks.append(describe(error))

    signals.got_request_exception.connect(heard)
    return lambda: signals.got_request_exception.disconnect(heard)
