"""Samples: what the scoreboards and the kernel say of the sites, once a second.

What stands in a scoreboard is written by a site's code: it is read with bounds and believed only as a
figure to show. Rates are over some seconds, percentiles over the last minute.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections import deque
from dataclasses import dataclass, field, replace
from operator import add
from typing import TYPE_CHECKING, NamedTuple

from djsup import shared_memory
from djsup.core.snapshot import Latency
from djsup_worker import scoreboard

if TYPE_CHECKING:
    from djsup.core.model import Pid

WINDOW_S = 60
"""Percentiles are over the answers of so many seconds."""
RATE_S = 5
"""Requests per second are a mean over so many seconds."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CPU_FRESH_S = 0.9
"""A process's processor time is read at most so often: it is counted in hundredths of a second."""
MEMORY_FRESH_S = 30.0
"""A process's memory is measured at most so often: the kernel walks its page tables for it, for a millisecond or two."""
_STAT_MAX_BYTES = 4096


class Scoreboard:
    """A site's shared memory: made and read here, written by its workers."""

    def __init__(self, site: str, fd: int | None = None) -> None:
        """``fd`` is a scoreboard that exists already.

        Raises:
            ValueError: it is none.
        """
        if fd is None:
            fd = shared_memory.of_size(f"djsup-{site}", scoreboard.SIZE_BYTES)
        elif not _is_scoreboard(fd):
            raise ValueError("no scoreboard")
        self.fd = fd
        self._words = scoreboard.open_words(fd)

    def row(self, slot: int, pid: Pid | None) -> scoreboard.Row | None:
        """The row of the worker with this pid; None while it has not begun to write."""
        row = scoreboard.read(self._words, slot)
        return row if row is not None and row.pid == pid else None

    def notes(self, slot: int, after: int) -> list[scoreboard.Note]:
        """The notes of a row with higher numbers, as far as they are there still."""
        return scoreboard.read_notes(self._words, slot, after)

    def close(self) -> None:
        """Give the memory back (workers that still map it keep theirs)."""
        self._words.release()
        os.close(self.fd)


def _is_scoreboard(fd: int) -> bool:
    """Whether an orphan has handed in memory that can be read without fear."""
    try:
        return (
            fcntl.fcntl(fd, fcntl.F_GET_SEALS) == shared_memory.SEALS
            and os.fstat(fd).st_size == scoreboard.SIZE_BYTES
        )
    except OSError:
        return False  # no memfd


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over workers: answers, by class, and by latency; bytes; connections."""

    requests: int = 0
    classes: tuple[int, ...] = (0, 0, 0, 0, 0)
    histogram: tuple[int, ...] = (0,) * scoreboard.HISTOGRAM_BUCKETS
    bytes_in: int = 0
    bytes_out: int = 0
    accepted: int = 0

    def as_here(self) -> Totals:
        """As this version counts: another one may have had other buckets, and then their counts mean nothing."""
        empty = Totals()
        return replace(
            self,
            classes=self.classes if len(self.classes) == len(empty.classes) else empty.classes,
            histogram=self.histogram if len(self.histogram) == len(empty.histogram) else empty.histogram,
        )

    def plus(self, row: scoreboard.Row) -> Totals:
        """With one worker's figures added."""
        return Totals(
            self.requests + row.requests,
            tuple(map(add, self.classes, row.classes)),
            tuple(map(add, self.histogram, row.histogram)),
            self.bytes_in + row.bytes_in,
            self.bytes_out + row.bytes_out,
            self.accepted + row.accepted,
        )


@dataclass(slots=True)
class SiteSamples:
    """The figures of one site over the last minute; workers that are gone are counted on."""

    retired: Totals = Totals()
    retired_cpu_s: float = 0.0
    """Processor time of processes that are gone, as it was when they were last measured."""
    basis: tuple[int, ...] = (0,) * scoreboard.HISTOGRAM_BUCKETS
    """The histogram of what was answered before this program began to look."""
    _seconds: deque[tuple[float, Totals]] = field(default_factory=lambda: deque(maxlen=WINDOW_S + 1))

    def retire(self, row: scoreboard.Row) -> None:
        """A worker is gone: keep what it had counted."""
        self.retired = self.retired.plus(row)

    def add(self, now: float, rows: list[scoreboard.Row]) -> Totals:
        """Add this second's rows; gives the site's totals so far."""
        totals = self.totals(rows)
        self._seconds.append((now, totals))
        return totals

    def rest(self) -> None:
        """It has no workers: what was in the last minute is over."""
        self._seconds.clear()

    def totals(self, rows: list[scoreboard.Row]) -> Totals:
        """The site's totals with these rows of living workers."""
        totals = self.retired
        for row in rows:
            totals = totals.plus(row)
        return totals

    def requests_per_s(self) -> float:
        """Answers a second over the last RATE_S seconds."""
        if len(self._seconds) <= 1:
            return 0.0
        then, before = self._seconds[max(0, len(self._seconds) - 1 - RATE_S)]
        last, after = self._seconds[-1]
        return max(0, after.requests - before.requests) / (last - then) if last > then else 0.0

    def latency(self) -> Latency:
        """Percentiles of the last minute, exact to the scoreboard's 5 %."""
        if not self._seconds:
            return Latency()
        first, last = self._seconds[0][1].histogram, self._seconds[-1][1].histogram
        if len(self._seconds) < WINDOW_S + 1:
            first = self.basis
        counts = [max(0, after - before) for before, after in zip(first, last, strict=True)]
        total = sum(counts)
        if total == 0:
            return Latency()
        p50, p95, p99 = (percentile_ms(counts, total, share) for share in (0.50, 0.95, 0.99))
        return Latency(p50, p95, p99)


DURATION_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The bounds of the coarse histogram for monitoring: each means the nearest of the scoreboard's, which is within 5 %."""
_LAST_BELOW = tuple(
    round(math.log(bound_s / scoreboard.BUCKET_FIRST_S, scoreboard.BUCKET_RATIO))
    for bound_s in DURATION_BOUNDS_S
)
"""For each of them the last of the scoreboard's buckets that is below it."""


def coarse(histogram: tuple[int, ...]) -> tuple[list[int], float]:
    """How many answers took no longer than each of DURATION_BOUNDS_S, and what all took together in seconds (to 5 %)."""
    counts = [sum(histogram[: last + 1]) for last in _LAST_BELOW]
    took_s = sum(
        count * scoreboard.bucket_middle_s(bucket) for bucket, count in enumerate(histogram) if count
    )
    return counts, took_s


def percentile_ms(counts: list[int], total: int, share: float) -> float:
    """The latency in milliseconds below which this share of ``total`` counted answers lies."""
    wanted = share * total
    seen = 0
    for bucket, number in enumerate(counts):
        seen += number
        if seen >= wanted:
            return round(scoreboard.bucket_middle_s(bucket) * 1000, 3)
    return round(scoreboard.bucket_middle_s(len(counts) - 1) * 1000, 3)


class Measured(NamedTuple):
    """What the kernel says of one process; zeros when it is gone."""

    rss_bytes: int = 0
    pss_bytes: int = 0
    private_bytes: int = 0
    """What it alone has written, in memory or swapped out: what it shares with its template is not in it, nor what the
    kernel can read again from a file."""
    cpu_percent: float = 0.0
    cpu_s: float = 0.0
    """Processor time so far, in user and kernel mode."""
    descriptors: int = 0
    os_threads: int = 0


class Cores:
    """How much of the CPU the workers of one site use."""

    def __init__(self) -> None:
        self._seconds: dict[Pid, float] = {}
        self._at: float | None = None

    def used(self, pids: list[Pid], now: float) -> float:
        """Cores in use since the last look, by those that lived then; 0 at the first."""
        seconds = {pid: stat.cpu_s for pid in pids if (stat := _stat(pid)) is not None}
        spent_s = sum(max(0.0, cpu_s - self._seconds.get(pid, cpu_s)) for pid, cpu_s in seconds.items())
        before, self._at, self._seconds = self._at, now, seconds
        return spent_s / (now - before) if before is not None and now > before else 0.0


class _Stat(NamedTuple):
    """What one read of /proc/PID/stat tells (proc_pid_stat(5))."""

    cpu_s: float
    """Seconds of CPU, in user and kernel mode."""
    os_threads: int
    rss_bytes: int


def _stat(pid: Pid) -> _Stat | None:
    """None when the process is gone. One read, without a file object: it is done once a second for each worker."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(fd, _STAT_MAX_BYTES).rpartition(b")")[2].split()
        finally:
            os.close(fd)
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        return _Stat(cpu_s, int(fields[17]), int(fields[21]) * _PAGE_BYTES)
    except (OSError, ValueError, IndexError):
        return None


def _descriptors(pid: Pid) -> int:
    """How many files a process has open; 0 when it is gone. Since Linux 6.2 the size of the folder says it."""
    folder = f"/proc/{pid}/fd"
    try:
        return os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208 -- as above
    except OSError:
        return 0


@dataclass(slots=True)
class _Known:
    """A process as it was when it was last looked at, on the monotonic clock."""

    stat: _Stat
    stat_at: float
    cpu_percent: float
    memory: dict[str, int]
    memory_at: float
    measured: Measured


class Meter:
    """Measures processes: processor time at most every CPU_FRESH_S, memory at most every MEMORY_FRESH_S."""

    def __init__(self) -> None:
        self._processes: dict[Pid, _Known] = {}

    def measure(self, pid: Pid, memory_fresh_s: float = MEMORY_FRESH_S) -> Measured:
        """A process's figures; its memory at most ``memory_fresh_s`` old. CPU is a mean since the last look."""
        now = time.monotonic()
        known = self._processes.get(pid)
        if known is not None and now - known.stat_at < CPU_FRESH_S and now - known.memory_at < memory_fresh_s:
            return known.measured
        stat = _stat(pid)
        try:
            if stat is None:
                return Measured()
            if known is None:
                known = _Known(stat, now, 0.0, _memory(pid), now, Measured())
            elif now - known.memory_at >= memory_fresh_s:
                known.memory, known.memory_at = _memory(pid), now
        except (OSError, ValueError):
            return Measured()
        if now - known.stat_at >= CPU_FRESH_S:
            known.cpu_percent = max(0.0, stat.cpu_s - known.stat.cpu_s) / (now - known.stat_at) * 100
            known.stat, known.stat_at = stat, now
        memory = known.memory
        known.measured = Measured(
            rss_bytes=stat.rss_bytes,
            pss_bytes=memory["Pss"],
            private_bytes=memory["Private_Dirty"] + memory["SwapPss"] + memory.get("Private_Hugetlb", 0),
            cpu_percent=known.cpu_percent,
            cpu_s=stat.cpu_s,
            descriptors=_descriptors(pid),
            os_threads=stat.os_threads,
        )
        self._processes[pid] = known
        return known.measured

    def memory_age_s(self, pid: Pid) -> float:
        """How long ago a process's memory was measured; endless, if never."""
        known = self._processes.get(pid)
        return math.inf if known is None else time.monotonic() - known.memory_at

    def forget(self, pid: Pid) -> float:
        """A process is gone; gives the processor time that it was last seen to have used, in seconds."""
        known = self._processes.pop(pid, None)
        return 0.0 if known is None else known.measured.cpu_s


def _memory(pid: Pid) -> dict[str, int]:
    """The sums over a process's mappings in bytes (proc(5), smaps_rollup), each only once."""
    fd = os.open(f"/proc/{pid}/smaps_rollup", os.O_RDONLY | os.O_CLOEXEC)
    try:
        lines = os.read(fd, _STAT_MAX_BYTES).decode().splitlines()[1:]
    finally:
        os.close(fd)
    return {name: int(value.split()[0]) * 1024 for name, _, value in (line.partition(":") for line in lines)}
