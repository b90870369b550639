"""Calls of the application that last too long: more time for one that asks, an end for one that does not.

``soft_timeout`` raises RequestTimeout in the thread of the call. It derives from BaseException, as
asyncio.CancelledError does since Python 3.8 and rack-timeout's exception always did, and for their reason: a
``except Exception`` around a query that is tried again must not swallow it. ``finally`` and ``with`` see it all the
same, so Django's ``atomic`` rolls back; Django's own handlers let it pass, and the 503 is made here.

Only the call itself is ended so, not the iteration of a body: its head is out, and no 503 can follow. What cannot be
ended (a call stuck in C) is left to the daemon, which replaces the worker at ``request_timeout``.

Rule: an exception is raised at most once for a call, and never outside of it. Each call has a token of its own.
Whoever takes it (``list.pop`` is atomic in CPython) decides: the call's own thread at its end, or else the one that
raises. A thread that finds its token gone waits until the exception has been set, and takes it back if it has not
come yet; PyThreadState_SetAsyncExc and the delivery both need the interpreter, so nothing can be in between.

In the main thread a signal does it instead: its handler runs there, at a moment at which Python would let any
handler run, so it also ends what waits in a system call or for a lock (PEP 475).

A quick request pays nothing for all this where ``soft_timeout`` is 0: its application is not wrapped.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional

from djsup_worker.limits import SECOND_NS, Limits
from djsup_worker.messages import TimedOut, shorten
from djsup_worker.wsgi import complain, describe

if TYPE_CHECKING:
    from djsup_worker.application import Application
    from djsup_worker.crew import Hand
    from djsup_worker.messages import Message
    from djsup_worker.scoreboard import RowWriter

TIMEOUT_SIGNAL = signal.SIGRTMIN + 5
"""What the main thread is interrupted with."""
AGAIN_NS = SECOND_NS
"""How long until it is, again: a signal that comes just before a system call begins does not interrupt it."""
SOONEST_NS = SECOND_NS // 1000
WHAT_MAX = 500
"""Characters of a request's method and path in a message."""
BODY = b"503 Service Unavailable: the request took too long\n"

get_ident = threading.get_ident
_monotonic_ns = time.monotonic_ns


class RequestTimeout(BaseException):
    """Raised in a request that has run longer than ``soft_timeout``."""

    def __str__(self) -> str:
        return "the request has run longer than soft_timeout"


class Call:
    """One call of the application, while it runs."""

    __slots__ = ("again_ns", "began_ns", "ident", "sent", "token", "until_ns")

    def __init__(self, ident: int) -> None:
        self.ident = ident
        self.began_ns = _monotonic_ns()
        self.until_ns = 0
        """It has asked for time up to here."""
        self.again_ns = 0
        """Not to be interrupted again before."""
        self.token: List[bool] = []
        """Not empty while it may be ended."""
        self.sent: Optional[threading.Event] = None
        """Set when the exception has been: there before the token is taken by another thread."""

    def due_ns(self, soft_ns: int) -> int:
        """When it has had its time."""
        return max(self.began_ns + soft_ns, self.until_ns, self.again_ns)

    def settle(self) -> bool:
        """Its end, in its own thread: from here on nothing is raised. Whether somebody has decided to."""
        try:
            self.token.pop()
        except IndexError:
            pass
        else:
            return False
        while True:
            try:
                if self.sent is not None:
                    self.sent.wait()
                    _raise_in(self.ident, None)
            except RequestTimeout:
                continue  # there it is: it was on its way, and comes only once
            return True


class Timeouts:
    """The calls that one worker runs, and what becomes of those that last."""

    def __init__(self, site: str, row: RowWriter, here: Callable[[], Optional[Hand]]) -> None:
        """``here`` gives the hand whose thread asks; None: it is none of the crew."""
        self._site = site
        self._row = row
        self._here = here
        self._limits = Limits()
        self._soft_ns = 0
        self._calls: Dict[int, Call] = {}
        """The last call of each thread."""
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._watcher: Optional[threading.Thread] = None
        self._main = get_ident()
        self.tell: Callable[[Message], None] = lambda _message: None

        self._closed = False

    # --- from outside ---

    def new_limits(self, limits: Limits) -> None:
        """Keep these from now on."""
        self._limits = limits
        self._soft_ns = int(limits.soft_timeout_s * SECOND_NS)
        self._alarm.put(None)

    def close(self) -> None:
        """End the watch. A worker need not: it ends."""
        self._closed = True
        self._alarm.put(None)

    def guard(self, application: Application) -> Application:
        """The application, its calls ended at ``soft_timeout``; as it is where there is none."""
        if not self._soft_ns:
            return application
        if self._watcher is None:
            import ctypes  # noqa: F401, PLC0415  # as below

            self._watcher = threading.Thread(target=self._watch, name="djsup-timeouts", daemon=True)
            self._watcher.start()

        calls = self._calls

        def guarded(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            ident = get_ident()
            call = calls[ident] = Call(ident)
            result: Any = None
            fired = True
            try:
                try:
                    call.token.append(True)
                    result = application(environ, start_response)
                finally:
                    fired = call.settle()
            except RequestTimeout as timeout:
                return self._ended(call, environ, start_response, result, timeout)
            if fired:
                self._say(call, environ, "answered by the application all the same", None)
            return result  # type: ignore[no-any-return]  # what it is, is the response's affair

        return guarded

    def extend(self, seconds: float) -> float:
        """``environ["djsup.extend_timeout"]``: let this request run for ``seconds`` from now, if that is longer.

        Gives the seconds that it may run now, at least: less than was asked for where ``max_timeout`` is in the way.

        Raises:
            RuntimeError: this is not the thread that runs the request.
        """
        hand = self._here()
        since_ns = 0 if hand is None else self._row.since_ns(hand.index)
        if hand is None or not since_ns:
            raise RuntimeError(
                "djsup.extend_timeout works in the thread that runs the request, and only there"
            )
        now_ns = _monotonic_ns()
        latest_ns = since_ns + int(self._limits.max_timeout_s * SECOND_NS)
        until_ns = min(now_ns + int(max(0.0, seconds) * SECOND_NS), latest_ns)
        call = self._calls.get(get_ident())
        if call is not None:
            call.until_ns = max(call.until_ns, until_ns)
        self._row.extend(hand.index, until_ns)
        usual_s = self._limits.soft_timeout_s or self._limits.request_timeout_s
        return max(until_ns - now_ns, since_ns + int(usual_s * SECOND_NS) - now_ns, 0) / SECOND_NS

    def interrupt(self, _number: int, _frame: Any) -> None:
        """The handler of TIMEOUT_SIGNAL, in the main thread: end what runs there, if it has had its time.

        Raises:
            RequestTimeout: it has.
        """
        call = self._calls.get(self._main)
        if call is None or not call.token or not self._soft_ns:
            return
        if max(call.began_ns + self._soft_ns, call.until_ns) > _monotonic_ns():
            return
        try:
            call.token.pop()
        except IndexError:
            return
        raise RequestTimeout

    # --- the watch ---

    def _watch(self) -> None:
        while not self._closed:
            soft_ns = self._soft_ns
            wait_s: Optional[float] = None
            if soft_ns:
                now_ns = _monotonic_ns()
                # A call that begins after this look is not due before the next.
                wait_s = max(SOONEST_NS, min(self._look(now_ns, soft_ns), soft_ns)) / SECOND_NS
            with contextlib.suppress(Empty):
                self._alarm.get(timeout=wait_s)

    def _look(self, now_ns: int, soft_ns: int) -> int:
        """End the calls that have had their time; gives how long until the next one has, in nanoseconds."""
        wait_ns = soft_ns
        for call in list(self._calls.values()):
            if not call.token:
                continue
            if call.due_ns(soft_ns) <= now_ns:
                self._end(call)
                call.again_ns = now_ns + AGAIN_NS
            wait_ns = min(wait_ns, call.due_ns(soft_ns) - now_ns)
        return wait_ns

    def _end(self, call: Call) -> None:
        if call.ident == self._main:
            signal.pthread_kill(self._main, TIMEOUT_SIGNAL)
            return
        call.sent = threading.Event()
        try:
            call.token.pop()
        except IndexError:
            return
        _raise_in(call.ident, RequestTimeout)
        call.sent.set()

    # --- the end of a call ---

    def _ended(
        self,
        call: Call,
        environ: Dict[str, Any],
        start_response: Callable[..., Any],
        result: Any,
        timeout: RequestTimeout,
    ) -> Iterable[bytes]:
        """It was ended: answer 503, or have the connection cut where the head is out."""
        close = getattr(result, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:  # noqa: BLE001  # as wsgi has it: what close() raises harms no client
                complain(self._site, describe(error))
        self._say(call, environ, "ended with 503", timeout)
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]
        start_response("503 Service Unavailable", headers, sys.exc_info())
        return [BODY]

    def _say(
        self,
        call: Call,
        environ: Dict[str, Any],
        outcome: str,
        timeout: Optional[RequestTimeout],
    ) -> None:
        age_s = (_monotonic_ns() - call.began_ns) / SECOND_NS
        what = ("%s %s" % (environ.get("REQUEST_METHOD"), environ.get("PATH_INFO")))[:WHAT_MAX]
        trace = "" if timeout is None else describe(timeout)
        complain(
            self._site,
            "%s: ran for %.1f s, longer than soft_timeout (%g s), and was %s\n%s"
            % (ascii(what)[1:-1], age_s, self._limits.soft_timeout_s, outcome, trace),
        )
        self.tell(TimedOut(request=what, age_s=age_s, outcome=outcome, traceback=shorten(trace)))


def _raise_in(ident: int, error: Optional[type]) -> None:
    """Have a thread raise this as soon as it runs Python; None: take back what it has not raised yet."""
    import ctypes  # noqa: PLC0415  # only where there is a soft_timeout, and long imported here

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), None if error is None else ctypes.py_object(error)
    )
