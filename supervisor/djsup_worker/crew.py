"""The threads of a worker: one polls and runs requests inline, the others are parked or in the application.

The polling role is whatever thread ``Loop.poll`` runs in. Around each call of the application the poller
lays its token down and takes it up again (``token.append``, ``token.pop``: atomic in CPython, and some 30 ns
each). Each thread has a place of its own for it: from a common one, a thread that comes back late would
take the token of its successor, and two would poll. While the token lies there, a monitor may take it: then the role is free, and goes to a spare
thread. A thread that finds its token gone when the application returns has lost the role: it gives its
connection back to the loop and parks. Without a spare thread the token is left where it is, so nobody
accepts, and the kernel gives new connections to other workers.

A response goes on in the thread that began it. The poller hands it over through ``pass_to``: the
thread finds it in its backlog as soon as it is free.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Any, Deque, List, Optional, Protocol

TICK_S = 0.005
"""A call of the application that is seen at two ticks has lasted this long: the role moves on."""
QUIET_TICKS = 40
"""The monitor goes to sleep after so many ticks without a request, so an idle worker never wakes."""

POLL, WORK, STOP = "poll", "work", "stop"


class Task(Protocol):
    """A response that has something to do in its own thread."""

    def turn_elsewhere(self, hand: Hand) -> None:
        """Do it, in the thread of ``hand``, which does not have the polling role."""


class Hand:
    """A thread that can run the application."""

    __slots__ = ("backlog", "index", "lost", "mail", "token")

    def __init__(self, index: int) -> None:
        self.index = index
        self.mail: SimpleQueue[str] = SimpleQueue()
        self.backlog: Deque[Task] = deque()
        self.token: List[bool] = []
        """Not empty while it polls and is in the application."""
        self.lost = False
        """Whether it lost the polling role; written by its own thread only."""


class Crew:
    """All threads of a worker that can run the application, at most ``most`` of them."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.turns = 0
        """Calls of the application by pollers so far; the monitor tells by it whether a call is still the same."""
        self.resting = most > 1
        """Whether the monitor sleeps and has to be woken by the next call."""
        self.first = Hand(0)
        self._hands = [self.first]
        self._parked: List[Hand] = []
        self._alarm: SimpleQueue[None] = SimpleQueue()
        self._monitor: Optional[threading.Thread] = None
        self._loop: Any = None
        self.stopped = False

    def run(self, loop: Any) -> None:
        """Poll in this thread, and live as one of the crew until ``stop``."""
        self._loop = loop
        self._live(self.first, polling=True)

    def stop(self) -> None:
        """End the life of every thread that is parked, and of every other when it would park."""
        self.stopped = True
        for hand in self._hands:
            hand.mail.put(STOP)

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

    # --- a thread's life ---

    def _live(self, hand: Hand, *, polling: bool) -> None:
        while True:
            if polling:
                hand.lost = False
                self._loop.poll(hand)
                polling = False
            while hand.backlog:
                hand.backlog.popleft().turn_elsewhere(hand)
            if self.stopped:
                return
            self._parked.append(hand)
            if hand.backlog and self._unpark(hand):
                continue  # it came between the last look and the parking
            mail = hand.mail.get()
            if mail is STOP:
                return
            polling = mail is POLL

    def _unpark(self, hand: Hand) -> bool:
        """Take a thread out of the parked ones; False when it is not there, or somebody else took it."""
        try:
            self._parked.remove(hand)
        except ValueError:
            return False
        return True

    # --- the monitor ---

    def _watch(self) -> None:
        seen = -1
        quiet = QUIET_TICKS
        while not self.stopped:
            if quiet >= QUIET_TICKS:
                self.resting = True
                if self.turns == seen and not self._loop.poller.token:
                    self._alarm.get()
                self.resting = False
                quiet = 0
            time.sleep(TICK_S)
            if self.turns != seen:
                seen = self.turns
                quiet = 0
            elif self._loop.poller.token:
                quiet = 0
                self._relieve(self._loop.poller)
            else:
                quiet += 1

    def _relieve(self, poller: Hand) -> None:
        """Give the polling role to a spare thread, if there is one and the poller's token still lies there."""
        spare = self._spare()
        if spare is None:
            return
        try:
            poller.token.pop()
        except IndexError:
            self._parked.append(spare)
            if spare.backlog and self._unpark(spare):
                spare.mail.put(WORK)
        else:
            spare.mail.put(POLL)

    def _spare(self) -> Optional[Hand]:
        try:
            return self._parked.pop()
        except IndexError:
            pass
        if len(self._hands) >= self.most:
            return None
        hand = Hand(len(self._hands))
        thread = threading.Thread(target=self._begin, args=(hand,), name="djsup-%d" % hand.index, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return None  # no thread to be had now: the next tick tries again
        self._hands.append(hand)
        return hand

    def _begin(self, hand: Hand) -> None:
        mail = hand.mail.get()
        if mail is not STOP:
            self._live(hand, polling=mail is POLL)
