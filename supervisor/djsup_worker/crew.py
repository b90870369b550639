"""The threads of a worker: one polls and runs requests inline, the others are parked or in the application.

The polling role is whatever thread ``Loop.poll`` runs in. Around each call of the application the poller
lays its token down and takes it up again (``token.append``, ``token.pop``: atomic in CPython, and some 30 ns
each). Each thread has a place of its own for it: from a common one, a thread that comes back late would
take the token of its successor, and two would poll. While the token lies there, a monitor may take it: then the
role is free, and goes to a spare thread. A thread that finds its token gone when the application returns has lost
the role: it gives its connection back to the loop and parks. Without a spare thread the token is left where it is,
so nobody accepts, and the kernel gives new connections to other workers.

What the monitor tells apart, by the CPU time of the poller's thread: a call that waits (for a database, for
another server) uses none, and the role moves on at once. One that computes would only share the interpreter
with the next poller, to the cost of both, and keeps the role for COMPUTING_NS. If it goes on after that,
the interpreter changes threads more often (SHARING_S): a quick request needs it several times, and would
have to wait five milliseconds for it each time.

What a call was found to do, the next of its route will do: that is remembered (``habits``), and the poller gives
the role away before it begins such a call (``step_aside``), so that nobody waits for the monitor to look. If all
threads are busy then, its token says what the call is known for, and the first thread that is free takes it.

A response goes on in the thread that began it. The poller hands it over through ``pass_to``: the
thread finds it in its backlog as soon as it is free.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Any, Deque, List, Optional, Protocol, Set

from djsup_worker.habits import COMPUTES, WAITS, Habits

TICK_S = 0.005
"""How often the monitor looks while requests run, in seconds."""
BRISK_TICK_S = 0.002
"""How often it looks while some call has waited lately: there will be others."""
BRISK_NS = 1_000_000_000
"""How long that is, in nanoseconds."""
QUIET_TICKS = 40
"""The monitor goes to sleep after so many ticks without a request, so an idle worker never wakes."""
WAITING_NS = 2_000_000
"""A call that has lasted this long, sleeps, and has not used the CPU for half of it, waits for something."""
STARVED_NS = 10_000_000
"""As above, while another thread of the crew runs: it may be waiting for the interpreter alone."""
COMPUTING_NS = 50_000_000
"""A call that has used the CPU for so long shares the interpreter from then on with the next poller."""
SHARING_S = 0.0003
"""How long a thread may keep the interpreter then, when another one wants it (sys.setswitchinterval)."""

POLL, WORK, STOP = "poll", "work", "stop"
STARVES = "starves"
"""Beside WAITS and COMPUTES, which are habits of its route: a call that could not get on, for reasons of others."""


class Task(Protocol):
    """A response that has something to do in its own thread."""

    def turn_elsewhere(self, hand: Hand) -> None:
        """Do it, in the thread of ``hand``, which does not have the polling role."""


class Hand:
    """A thread that can run the application."""

    __slots__ = (
        "backlog",
        "cpu_clock",
        "ident",
        "index",
        "lost",
        "mail",
        "native_id",
        "since_ns",
        "token",
        "why",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.mail: SimpleQueue[str] = SimpleQueue()
        self.backlog: Deque[Task] = deque()
        self.token: List[Optional[str]] = []
        """Not empty while it polls and is in the application: what the call is known for, or None."""
        self.lost = False
        """Whether it lost the polling role; written by its own thread only."""
        self.since_ns = 0
        """When its last call of the application as the poller began; tells one from the next, too. Belongs to the
        thread: in a common place, one that comes back late would make a call of its successor look young."""
        self.why = STARVES
        """Why it lost the role; written by the monitor before it takes the token, read by its own thread when the
        token is gone."""
        self.cpu_clock = 0
        """The clock of its CPU time, and the kernel's number for it, once it lives."""
        self.native_id = 0
        self.ident = 0
        """Python's name for its thread, once it lives."""

    def live(self) -> None:
        """Called by its own thread, at its beginning."""
        self.ident = threading.get_ident()
        self.cpu_clock = time.pthread_getcpuclockid(self.ident)
        self.native_id = threading.get_native_id()

    def sleeps(self) -> bool:
        """Whether it neither runs nor only waits for a processor (proc(5), the state in ``task/TID/stat``)."""
        try:
            with open("/proc/self/task/%d/stat" % self.native_id, "rb") as file:
                return file.read(512).rpartition(b")")[2][1:2] != b"R"
        except OSError:
            return True


class Crew:
    """All threads of a worker that can run the application, at most ``most`` of them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.habits = Habits()
        """What calls are known to do."""
        self.resting = most > 1
        """Whether the monitor sleeps and has to be woken by the next call."""
        self.first = Hand(0)
        self._hands = [self.first]
        self._parked: List[Hand] = []
        self._enlisting = threading.Lock()
        self._computing: Set[Hand] = set()
        """Those without the role whose call computes for long."""
        self._usual_interval_s = 0.0
        """The interpreter's switch interval while it is shortened; 0: it is not."""
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._monitor: Optional[threading.Thread] = None
        self._threads: List[threading.Thread] = []
        """Those of all hands but the first."""
        self._loop: Any = None
        self.stopped = False

    def run(self, loop: Any) -> None:
        """Poll in this thread, and live as one of the crew until ``stop``."""
        self._loop = loop
        self._live(self.first, polling=True)

    def here(self) -> Optional[Hand]:
        """The hand whose thread asks; None: it is none of ours."""
        ident = threading.get_ident()
        return next((each for each in self._hands if each.ident == ident), None)

    def stop(self) -> None:
        """End the life of every thread that is parked, and of every other when it would park."""
        self.stopped = True
        self._alarm.put(None)
        for hand in self._hands:
            hand.mail.put(STOP)

    def join(self, timeout_s: float) -> None:
        """Wait for the threads that have been stopped, for so long at most; called by the one that ran the crew."""
        until = time.monotonic() + timeout_s
        for thread in [*self._threads, self._monitor]:
            if thread is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def wake_monitor(self) -> None:
        """Have the monitor look again; called by the poller when ``resting`` is set."""
        if self._monitor is None:
            monitor = threading.Thread(target=self._watch, name="djsup-monitor", daemon=True)
            try:
                monitor.start()
            except RuntimeError:
                return  # no thread to be had now: the next call tries again
            self._monitor = monitor
        self.resting = False
        self._alarm.put(None)

    def pass_to(self, hand: Hand, task: Task) -> None:
        """Let a thread do what only it may do; called by the poller, for any thread but itself."""
        hand.backlog.append(task)
        if self._unpark(hand):
            hand.mail.put(WORK)
        # Otherwise it is busy, and looks into its backlog before it parks.

    def step_aside(self, hand: Hand, habit: str) -> bool:
        """Give the polling role away before a call that is known to last; called by the poller.

        False when there is no spare thread: the poller begins the call, and lays a token down that says what is
        known of it. After True it has lost the role, and must touch nothing that is the poller's.
        """
        spare = self._spare()
        if spare is None:
            return False
        hand.lost = True
        hand.why = habit
        if habit is COMPUTES:
            self._computing.add(hand)
        spare.mail.put(POLL)
        return True

    # --- a thread's life ---

    def _live(self, hand: Hand, *, polling: bool) -> None:
        hand.live()
        self._loop.row.name_thread(hand.index, threading.get_ident())
        while True:
            if polling:
                hand.lost = False
                self._loop.poll(hand)
                self._computing.discard(hand)
                polling = False
            while hand.backlog:
                hand.backlog.popleft().turn_elsewhere(hand)
            if self.stopped:
                return
            self._parked.append(hand)
            if hand.backlog and self._unpark(hand):
                continue  # it came between the last look and the parking
            if self._is_wanted() and self._unpark(hand):
                polling = self._take_over()
                continue
            mail = hand.mail.get()
            if mail is STOP:
                return
            polling = mail is POLL

    def _is_wanted(self) -> bool:
        """Whether the poller is in a call that is known to last, for nobody was free to take the role before it."""
        return any(self._loop.poller.token)

    def _take_over(self) -> bool:
        """Take the role from such a poller; called by a thread that is free."""
        poller: Hand = self._loop.poller
        for habit in poller.token:  # one at most
            if habit is not None:
                return self._take_token(poller, habit)
        return False

    def _take_token(self, poller: Hand, why: str) -> bool:
        """Take the polling role, if the poller's token still lies there."""
        poller.why = why
        if why is COMPUTES:
            self._computing.add(poller)
        try:
            poller.token.pop()
        except IndexError:
            self._computing.discard(poller)
            return False
        return True

    def _unpark(self, hand: Hand) -> bool:
        """Take a thread out of the parked ones; False when it is not there, or somebody else took it."""
        try:
            self._parked.remove(hand)
        except ValueError:
            return False
        return True

    # --- the monitor ---

    def _watch(self) -> None:
        glance = Glance(self._loop.poller)
        quiet = QUIET_TICKS
        brisk_until_ns = 0
        while not self.stopped:
            if quiet >= QUIET_TICKS:
                self.resting = True
                poller = self._loop.poller
                if poller.since_ns == glance.since_ns and not poller.token:
                    self._alarm.get()
                self.resting = False
                quiet = 0
                glance = Glance(self._loop.poller)
            time.sleep(BRISK_TICK_S if glance.now_ns < brisk_until_ns else TICK_S)
            if self._computing or self._usual_interval_s:
                self._share_interpreter()
            before, glance = glance, Glance(self._loop.poller, glance)
            if not glance.in_call:
                quiet = quiet + 1 if glance.since_ns == before.since_ns else 0
                continue
            quiet = 0
            if not self._parked and len(self._hands) >= self.most:
                continue  # there is nobody to give the role to
            why = glance.judge(before, self._hands)
            if why is None:
                continue
            if why is WAITS:
                brisk_until_ns = glance.now_ns + BRISK_NS
            self._relieve(glance.hand, why)

    def _share_interpreter(self) -> None:
        """Shorten the switch interval while some call computes beside the poller's."""
        if self._computing and not self._usual_interval_s:
            self._usual_interval_s = sys.getswitchinterval()
            sys.setswitchinterval(min(SHARING_S, self._usual_interval_s))
        elif not self._computing and self._usual_interval_s:
            sys.setswitchinterval(self._usual_interval_s)
            self._usual_interval_s = 0.0

    def _relieve(self, poller: Hand, why: str) -> None:
        """Give the polling role to a spare thread, if there is one and the poller's token still lies there."""
        spare = self._spare()
        if spare is None:
            return
        if self._take_token(poller, why):
            spare.mail.put(POLL)
            return
        self._parked.append(spare)
        if spare.backlog and self._unpark(spare):
            spare.mail.put(WORK)

    def _spare(self) -> Optional[Hand]:
        """A thread that has nothing to do, for the poller or the monitor; None: there is none, nor may there be."""
        try:
            return self._parked.pop()
        except IndexError:
            pass
        with self._enlisting:
            if len(self._hands) >= self.most:
                return None
            hand = Hand(len(self._hands))
            thread = threading.Thread(
                target=self._begin, args=(hand,), name="djsup-%d" % hand.index, daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                return None  # no thread to be had now: the next tick tries again
            self._hands.append(hand)
            self._threads.append(thread)
            return hand

    def _begin(self, hand: Hand) -> None:
        mail = hand.mail.get()
        if mail is not STOP:
            self._live(hand, polling=mail is POLL)


class Glance:
    """What the monitor sees of the poller at one tick."""

    __slots__ = ("cpu_ns", "cpu_ns_at_first", "hand", "in_call", "now_ns", "since_ns")

    def __init__(self, hand: Hand, before: Optional[Glance] = None) -> None:
        self.hand = hand
        # In this order: a call that begins in between looks young, not old.
        self.in_call = bool(hand.token)
        self.since_ns = hand.since_ns
        self.now_ns = time.monotonic_ns()
        try:
            self.cpu_ns = time.clock_gettime_ns(hand.cpu_clock) if hand.cpu_clock else 0
        except OSError:  # the thread has ended
            self.cpu_ns = 0
        same = before is not None and before.hand is hand and before.since_ns == self.since_ns
        self.cpu_ns_at_first: int = before.cpu_ns_at_first if same and before else self.cpu_ns
        """As it was when this call was first seen."""

    def judge(self, before: Glance, crew: List[Hand]) -> Optional[str]:
        """What the poller's call does, by the difference to the tick before; None: nothing that one would mind."""
        lasted_ns = self.now_ns - self.since_ns
        if lasted_ns < WAITING_NS or before.hand is not self.hand:
            return None
        if self.cpu_ns - self.cpu_ns_at_first >= COMPUTING_NS:
            return COMPUTES
        watched_ns = min(lasted_ns, self.now_ns - before.now_ns)
        if (self.cpu_ns - before.cpu_ns) * 2 < watched_ns and self.hand.sleeps():
            if all(each.sleeps() for each in crew):
                return WAITS
            if lasted_ns >= STARVED_NS:
                return STARVES
        return None
