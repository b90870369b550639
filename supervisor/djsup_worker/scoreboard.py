"""The scoreboard: shared memory in which the workers of a site record what they do.

One memfd a site, ROWS rows of ROW_BYTES; one worker writes a row, the daemon only reads. Numbers
are native 64-bit words, times are readings of CLOCK_MONOTONIC in nanoseconds (the same clock in
every process of a machine). A reader may meet a row half written: ``read`` bounds every value and
trusts none, because a site's code could write anything here.

Row layout, in 64-bit words:

    0        MAGIC once the row is in use
    1        pid of the writer
    2        generation
    3        state (ROW_STATES)
    4        reserved: how many requests have ended is the sum of the histogram
    5..9     answers by class, 1xx to 5xx
    10       body bytes in      11  bytes out
    12       connections open   13  connections accepted
    14       connections handed over   15  connections taken over
    16       threads            17  listeners' errors
    24       notes written so far
    25..31   reserved
    32..191  latency histogram: HISTOGRAM_BUCKETS counts of answers
    192..255 NOTES notes of NOTE_WORDS words on requests that failed or were slow, each in the place of the NOTES-th before:
             0 its number from 1 (0: it is being written)   1 when the request ended (ns)   2 how long it took (ns)
             3 its status   4 length of the method and path   5.. method, a space, path (UTF-8, cut)
    256..    THREADS_MAX records of THREAD_WORDS words:
             0 since (ns; 0: nothing runs)   1 the thread's ident (pthread_self), as faulthandler names it
             2 length of the method and path   3.. method, a space, path (UTF-8, cut)
             25 until when it has asked for more time (ns)
             26 since when the request runs that has asked: what another left behind in 25 counts for nothing
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_left
from dataclasses import dataclass
from typing import List, NamedTuple, Tuple

ROWS = 128
ROW_BYTES = 16 * 1024
SIZE_BYTES = ROWS * ROW_BYTES
WORDS = ROW_BYTES // 8
MAGIC = 0x646A7375705F3031

MAGIC_AT, PID_AT, GENERATION_AT, STATE_AT, CLASSES_AT = 0, 1, 2, 3, 5
BYTES_IN_AT, BYTES_OUT_AT, CONNECTIONS_AT, ACCEPTED_AT = 10, 11, 12, 13
HANDED_AT, TAKEN_AT, THREADS_AT, LISTENER_ERRORS_AT = 14, 15, 16, 17
HISTOGRAM_AT = 32
HISTOGRAM_BUCKETS = 160
NOTED_AT = 24
NOTES_START, NOTES, NOTE_WORDS = 192, 4, 16
NOTE_TEXT_MAX_BYTES = (NOTE_WORDS - 5) * 8
NOTED_NS = 500_000_000
"""A request that took longer is noted, and any that was answered 5xx."""
THREADS_START = 256
THREAD_WORDS = 27
UNTIL_AT, ASKED_AT = THREAD_WORDS - 2, THREAD_WORDS - 1
TEXT_MAX_BYTES = (UNTIL_AT - 3) * 8
THREADS_MAX = 64

ROW_STATES = ("booting", "serving", "draining")

BUCKET_FIRST_S = 50e-6
"""Answers faster than this are in bucket 0."""
BUCKET_RATIO = 1.1
"""Each bucket's upper bound over the one before: a percentile is exact to 5 %."""
_BOUNDS_NS = [int(BUCKET_FIRST_S * BUCKET_RATIO**bucket * 1e9) for bucket in range(HISTOGRAM_BUCKETS - 1)]
"""The upper bound of each bucket but the last, which has none."""
_QUICK_SHIFT = 10
_QUICK = bytes(bisect_left(_BOUNDS_NS, units << _QUICK_SHIFT) for units in range(8192))
"""The buckets of latencies up to 8 ms in steps of 1.024 microseconds: a look-up is a fifth of a search."""
_QUICK_NS = len(_QUICK) << _QUICK_SHIFT


def bucket_of(seconds: float) -> int:
    """The histogram bucket of a latency."""
    return _bucket_of_ns(int(seconds * 1e9))


def _bucket_of_ns(latency_ns: int) -> int:
    return (
        _QUICK[latency_ns >> _QUICK_SHIFT] if latency_ns < _QUICK_NS else bisect_left(_BOUNDS_NS, latency_ns)
    )


def bucket_middle_s(bucket: int) -> float:
    """The latency in seconds that stands for a bucket: within 5 % of all in it."""
    if bucket == 0:
        return BUCKET_FIRST_S / 2
    return float(BUCKET_FIRST_S * BUCKET_RATIO ** (bucket - 0.5))


@dataclass(frozen=True)
class Running:
    """A request that a thread runs, as its row says."""

    thread: int
    since_ns: int
    method: str
    path: str
    ident: int
    """As ``threading.get_ident`` gives it."""
    until_ns: int = 0
    """It has asked for time up to here; 0: it has not."""


@dataclass(frozen=True)
class Note:
    """A request that failed or was slow, as its row says."""

    number: int
    """Of its worker's notes, from 1."""
    ended_ns: int
    took_ns: int
    status: int
    method: str
    path: str


class Row(NamedTuple):
    """One worker's row, read and bounded: a tuple, for the daemon makes one of each worker every second."""

    pid: int
    generation: int
    state: str
    requests: int
    classes: Tuple[int, int, int, int, int]
    bytes_in: int
    bytes_out: int
    connections: int
    accepted: int
    handed_over: int
    taken_over: int
    threads: int
    histogram: Tuple[int, ...]
    running: Tuple[Running, ...]
    noted: int = 0
    """Notes that were written so far; ``read_notes`` gives the last."""


def open_words(fd: int) -> memoryview:
    """Map a scoreboard (SIZE_BYTES of shared memory) as 64-bit words; rows lie one behind another."""
    return memoryview(mmap.mmap(fd, SIZE_BYTES)).cast("Q")


def row_words(words: memoryview, slot: int) -> memoryview:
    """The words of one row.

    Raises:
        IndexError: there is no such row.
    """
    if not 0 <= slot < ROWS:
        raise IndexError("no row %d in a scoreboard of %d" % (slot, ROWS))
    return words[slot * WORDS : (slot + 1) * WORDS]


def read(words: memoryview, slot: int) -> "Row | None":
    """Read one row; None when no worker has used it. Never raises for what stands in it."""
    row = row_words(words, slot)
    if row[MAGIC_AT] != MAGIC:
        return None
    numbers: List[int] = row[:HISTOGRAM_AT].tolist()
    state = numbers[STATE_AT]
    threads = min(numbers[THREADS_AT], THREADS_MAX)
    running = []
    for thread in range(threads):
        start = THREADS_START + thread * THREAD_WORDS
        since_ns = row[start]
        if since_ns == 0:
            continue
        length = min(row[start + 2], TEXT_MAX_BYTES)
        text = bytes(row[start + 3 : start + UNTIL_AT])[:length].decode("utf-8", "replace")
        method, _, path = text.partition(" ")
        until_ns = row[start + UNTIL_AT] if row[start + ASKED_AT] == since_ns else 0
        running.append(Running(thread, since_ns, method, path, row[start + 1], until_ns))
    classes = numbers[CLASSES_AT : CLASSES_AT + 5]
    histogram = tuple(row[HISTOGRAM_AT : HISTOGRAM_AT + HISTOGRAM_BUCKETS].tolist())
    return Row(
        pid=numbers[PID_AT],
        generation=numbers[GENERATION_AT],
        state=ROW_STATES[state] if state < len(ROW_STATES) else ROW_STATES[0],
        requests=sum(histogram),
        classes=(classes[0], classes[1], classes[2], classes[3], classes[4]),
        bytes_in=numbers[BYTES_IN_AT],
        bytes_out=numbers[BYTES_OUT_AT],
        connections=numbers[CONNECTIONS_AT],
        accepted=numbers[ACCEPTED_AT],
        handed_over=numbers[HANDED_AT],
        taken_over=numbers[TAKEN_AT],
        threads=threads,
        histogram=histogram,
        running=tuple(running),
        noted=numbers[NOTED_AT],
    )


def read_notes(words: memoryview, slot: int, after: int) -> List[Note]:
    """The notes of a row with higher numbers than ``after``, oldest first; older ones are overwritten.

    Never raises for what stands in it.
    """
    row = row_words(words, slot)
    found = []
    for place in range(NOTES):
        start = NOTES_START + place * NOTE_WORDS
        number, ended_ns, took_ns, status, length = row[start : start + 5].tolist()
        text = bytes(row[start + 5 : start + NOTE_WORDS])[: min(length, NOTE_TEXT_MAX_BYTES)]
        if number <= after or row[start] != number:
            continue
        method, _, path = text.decode("utf-8", "replace").partition(" ")
        found.append(Note(number, ended_ns, took_ns, min(status, 999), method, path))
    return sorted(found, key=lambda note: note.number)


_NOTE = struct.Struct("=QQQQ%ds" % NOTE_TEXT_MAX_BYTES).pack_into
_TEXT = struct.Struct("=Q%ds" % TEXT_MAX_BYTES).pack_into


class RowWriter:
    """The one writer of a row.

    ``begin`` and ``rest`` are called by the thread that runs a request, for its own record; all
    else by the one thread that polls. ``begin`` and ``end`` take a fraction of a microsecond, for
    every request pays for them.
    """

    def __init__(self, words: memoryview, slot: int, pid: int, generation: int, threads: int) -> None:
        self._row = row = row_words(words, slot)
        self._bytes = row.cast("B")
        self._bytes[:] = bytes(ROW_BYTES)
        self._texts = [b""] * THREADS_MAX
        # Kept here too: adding to what is known is cheaper than reading it back.
        self._bytes_in = self._bytes_out = 0
        self._noted = 0
        row[PID_AT] = pid
        row[GENERATION_AT] = generation
        row[THREADS_AT] = min(threads, THREADS_MAX)
        row[MAGIC_AT] = MAGIC

    def state(self, name: str) -> None:
        """Record the worker's state, one of ROW_STATES."""
        self._row[STATE_AT] = ROW_STATES.index(name)

    def begin(self, thread: int, now_ns: int, what: bytes) -> None:
        """A thread (from 0) begins to run a request; ``what`` is its method, a space and its path."""
        if thread >= THREADS_MAX:
            return
        at = THREADS_START + thread * THREAD_WORDS
        if what != self._texts[thread]:
            self._texts[thread] = what
            _TEXT(self._bytes, (at + 2) * 8, min(len(what), TEXT_MAX_BYTES), what)
        self._row[at] = now_ns

    def name_thread(self, thread: int, ident: int) -> None:
        """Record who a thread is, once, when it begins to live."""
        if thread < THREADS_MAX:
            self._row[THREADS_START + thread * THREAD_WORDS + 1] = ident

    def rest(self, thread: int) -> None:
        """A thread runs nothing any more, for now (-1: that was said already)."""
        if 0 <= thread < THREADS_MAX:
            self._row[THREADS_START + thread * THREAD_WORDS] = 0

    def since_ns(self, thread: int) -> int:
        """When a thread began what it runs; 0: it runs nothing, or has no record."""
        return self._row[THREADS_START + thread * THREAD_WORDS] if thread < THREADS_MAX else 0

    def extend(self, thread: int, until_ns: int) -> None:
        """What a thread runs asks for time up to here, if it has not asked for more; called by that thread."""
        at = THREADS_START + thread * THREAD_WORDS
        row = self._row
        if row[at + ASKED_AT] == row[at]:
            until_ns = max(until_ns, row[at + UNTIL_AT])
        row[at + UNTIL_AT] = until_ns
        row[at + ASKED_AT] = row[at]

    def end(self, thread: int, status: int, latency_ns: int, bytes_in: int, bytes_out: int) -> bool:
        """A request has ended, and its thread runs nothing any more (-1: that was said already).

        ``status`` is 0 when there was no answer to send. Gives whether it failed or was slow, and so is worth a note.
        """
        row = self._row
        if 0 <= thread < THREADS_MAX:
            row[THREADS_START + thread * THREAD_WORDS] = 0
        failed = False
        if 100 <= status < 500:  # noqa: PLR2004  # the classes that HTTP has
            row[CLASSES_AT - 1 + status // 100] += 1
        elif 500 <= status < 600:  # noqa: PLR2004  # as above
            row[CLASSES_AT + 4] += 1
            failed = True
        if bytes_in:
            row[BYTES_IN_AT] = self._bytes_in = self._bytes_in + bytes_in
        row[BYTES_OUT_AT] = self._bytes_out = self._bytes_out + bytes_out
        # As _bucket_of_ns, without the call.
        if latency_ns < _QUICK_NS:
            row[HISTOGRAM_AT + _QUICK[latency_ns >> _QUICK_SHIFT]] += 1
            return failed
        row[HISTOGRAM_AT + bisect_left(_BOUNDS_NS, latency_ns)] += 1
        return failed or latency_ns > NOTED_NS

    def note(self, what: bytes, status: int, ended_ns: int, took_ns: int) -> None:
        """Write down a request that failed or was slow; ``what`` is its method, a space and its path."""
        self._noted = number = self._noted + 1
        row = self._row
        at = NOTES_START + number % NOTES * NOTE_WORDS
        row[at] = 0
        length = min(len(what), NOTE_TEXT_MAX_BYTES)
        _NOTE(self._bytes, (at + 1) * 8, ended_ns, took_ns, status, length, what)
        row[at] = number
        row[NOTED_AT] = number

    def add(self, at: int, number: int) -> None:
        """Add to one of the row's counters (``CONNECTIONS_AT`` and so on)."""
        self._row[at] += number
