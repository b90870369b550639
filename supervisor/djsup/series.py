"""Series: what was measured of one site or worker, second by second, kept in rings of bounded size.

Pure: times are given, in whole seconds since the epoch. A figure is a half float (IEEE 754 binary16: 11 bits, exact to
0.05 %, whole numbers to 2048 exact) in its column's unit, so a record of a site is 32 bytes:

    1 s for 15 min     16 chunks of 60 records   31 KB
    10 s for 24 h      25 chunks of 360 records  288 KB
    1 min for 24 h     each minute packed with its latency histogram, about 120 bytes where there is traffic
                       and 27 where there is none: 250 KB or 90 KB with what Python takes

Measured, that is 0.6 MB for a site with traffic and 0.45 MB for one without, and nothing for one that sleeps. A chunk is
taken when its first sample comes and given back when too many newer ones are there, whatever the clock on the wall does
meanwhile.

Percentiles of a bin come from all its answers (the sum of the histograms), never from percentiles.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from itertools import compress
from operator import gt, truediv
from typing import TYPE_CHECKING, Any

from djsup_worker.scoreboard import HISTOGRAM_BUCKETS, bucket_middle_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Histogram = dict[int, int]
    """How many answers fell into each bucket of the scoreboard's; those without are left out."""

SECOND_S, TEN_S, MINUTE_S = 1, 10, 60
SECONDS_KEPT_S = 15 * 60
TENS_KEPT_S = 24 * 3600
HOURS_KEPT = 24
"""Of minutes, beside the running one."""
MIB = 1024 * 1024
_NAN = math.nan
_HALF_MAX = 65504.0
_HALF_NAN = struct.pack("<e", _NAN)
_INFINITE = frozenset({math.inf, -math.inf})
_FOLDED = 16
"""So many samples of a bin are summed up at once: that takes a third of the time of adding each."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a record: its name in the API and how it is kept."""

    name: str
    unit: float = 64.0
    """What is kept is the figure over this: up to 65,504 units. A power of two costs no exactness."""
    digits: int = 0
    """Decimal places that are shown; 0: a whole number."""
    worst: bool = False
    """Of a longer time the largest is shown, not the mean."""

    def shown(self, kept: float) -> float | None:
        """A figure as the API gives it; None where there is none."""
        if kept != kept:  # noqa: PLR0124 -- not a number
            return None
        value = kept * self.unit
        return round(value, self.digits) if self.digits else round(value)


MEASURED = (
    Column("requests_per_s", digits=2),
    Column("client_errors_per_s", digits=2),
    Column("errors_per_s", digits=2),
    Column("busy", digits=2),
    Column("threads"),
    Column("workers", digits=1),
    Column("connections"),
    Column("queue", worst=True),
    Column("memory_bytes", unit=MIB),
    Column("private_bytes", unit=MIB),
    Column("cpu_percent", digits=1),
    Column("descriptors"),
    Column("os_threads"),
)
"""What is measured of a site each second, in this order."""
PERCENTILES = (
    Column("p50_ms", digits=3),
    Column("p95_ms", digits=3),
    Column("p99_ms", digits=3),
)
_SHARES = (0.50, 0.95, 0.99)
SITE = MEASURED + PERCENTILES
"""A site's record."""
_SPARKS = tuple(
    place for place, column in enumerate(SITE) if column.name in {"requests_per_s", "errors_per_s"}
)
WORKER = (
    Column("requests_per_s", digits=2),
    Column("busy", digits=2),
    Column("connections"),
    Column("memory_bytes", unit=MIB),
    Column("private_bytes", unit=MIB),
    Column("cpu_percent", digits=1),
    Column("descriptors"),
    Column("os_threads"),
)
"""A worker's record, which is measured each second and kept for 15 min."""


class Ring:
    """Records of some columns, one for each step of time, for as long as is kept."""

    def __init__(self, columns: Sequence[Column], step_s: int, kept_s: int, chunk: int) -> None:
        """``chunk`` is how many records are taken from memory at once."""
        self.columns = columns
        self.step_s = step_s
        self._record = struct.Struct(f"<{len(columns)}e")
        self._units = tuple(column.unit for column in columns)
        self._chunk = chunk
        self._empty = _HALF_NAN * (len(columns) * chunk)
        self._chunks_max = kept_s // step_s // chunk + 1
        self.chunks: dict[int, bytearray] = {}
        """By their number, the oldest first."""

    def put(self, at: int, figures: Iterable[float]) -> None:
        """Keep the figures of the step that ``at`` (s) is in; not a number: there is none."""
        number, place = divmod(at // self.step_s, self._chunk)
        chunk = self.chunks.get(number)
        if chunk is None:
            while len(self.chunks) >= self._chunks_max:
                del self.chunks[next(iter(self.chunks))]
            chunk = self.chunks[number] = bytearray(self._empty)
        kept = [*map(truediv, figures, self._units)]
        try:
            if _INFINITE.isdisjoint(kept):
                self._record.pack_into(chunk, place * self._record.size, *kept)
                return
        except OverflowError:  # more than half a float holds, as it may stand in a scoreboard
            pass
        self._record.pack_into(chunk, place * self._record.size, *map(_bounded, kept))

    def get(self, at: int) -> tuple[float, ...] | None:
        """The record of the step that ``at`` is in, in the columns' units; None: nothing was kept."""
        number, place = divmod(at // self.step_s, self._chunk)
        chunk = self.chunks.get(number)
        return None if chunk is None else self._record.unpack_from(chunk, place * self._record.size)

    def table(self, begin: int, end: int) -> Table:
        """The records of ``begin`` to ``end`` (s, not included)."""
        table = Table(self.columns, begin - begin % self.step_s, self.step_s)
        for at in range(table.begin, end, self.step_s):
            table.add(self.get(at))
        return table

    @property
    def size_bytes(self) -> int:
        """What the records take."""
        return sum(map(len, self.chunks.values()))

    @property
    def chunk_bytes(self) -> int:
        """What one chunk takes."""
        return len(self._empty)

    def recall(self, chunks: Mapping[int, bytes]) -> None:
        """Begin with chunks that another program has kept, the oldest first; one that is none is left out."""
        for number, chunk in list(chunks.items())[-self._chunks_max :]:
            if len(chunk) == self.chunk_bytes:
                self.chunks[number] = bytearray(chunk)


def _bounded(kept: float) -> float:
    return kept if -_HALF_MAX <= kept <= _HALF_MAX or kept != kept else math.copysign(_HALF_MAX, kept)  # noqa: PLR0124


@dataclass(slots=True)
class Table:
    """Records one behind the other, as they are shown."""

    columns: Sequence[Column]
    begin: int
    """When the first begins, in seconds since the epoch."""
    step_s: int
    records: list[tuple[float, ...] | None] = field(default_factory=list)

    def add(self, record: tuple[float, ...] | None) -> None:
        """Add what comes next."""
        self.records.append(record)

    def to_json(self) -> dict[str, object]:
        """The times, and a list of each column's figures."""
        times = [self.begin + number * self.step_s for number in range(len(self.records))]
        return {"step_s": self.step_s, "t": times, **self.lists(column.name for column in self.columns)}

    def lists(self, names: Iterable[str]) -> dict[str, list[float | None]]:
        """Lists of some columns' figures."""
        wanted = set(names)
        return {
            column.name: [None if record is None else column.shown(record[place]) for record in self.records]
            for place, column in enumerate(self.columns)
            if column.name in wanted
        }


class Bin:
    """The sum of what was measured of a site in some time."""

    __slots__ = ("_fresh", "_largest", "_numbers", "_sums", "begin", "histogram")

    def __init__(self, begin: int) -> None:
        self.begin = begin
        self.histogram: Histogram = {}
        self._fresh: list[Sequence[float]] = []
        """Samples that are not in the sums yet."""
        self._sums = [0.0] * len(MEASURED)
        self._numbers = [0] * len(MEASURED)
        self._largest = [0.0] * len(MEASURED)

    def add(self, figures: Sequence[float], histogram: Histogram) -> None:
        """Add a sample: the figures of MEASURED, and the answers of its time."""
        self._fresh.append(figures)
        if len(self._fresh) >= _FOLDED:
            self._fold()
        for bucket, number in histogram.items():
            self.histogram[bucket] = self.histogram.get(bucket, 0) + number

    def _fold(self) -> None:
        for place, column in enumerate(zip(*self._fresh, strict=True)):
            numbers = [figure for figure in column if figure == figure]  # noqa: PLR0124 -- a number
            if numbers:
                self._sums[place] += sum(numbers)
                self._numbers[place] += len(numbers)
                self._largest[place] = max(self._largest[place], *numbers)
        self._fresh.clear()

    def measured(self) -> list[float]:
        """The figures of MEASURED for all of the time."""
        self._fold()
        return [
            _NAN if not number else largest if column.worst else total / number
            for column, total, number, largest in zip(
                MEASURED, self._sums, self._numbers, self._largest, strict=True
            )
        ]

    def record(self) -> list[float]:
        """The figures of SITE for all of the time."""
        return [*self.measured(), *percentiles_ms(self.histogram)]

    def left(self) -> list[Any]:
        """All of it, for another program: JSON."""
        self._fold()
        return [self.begin, self._sums, self._numbers, self._largest, list(self.histogram.items())]

    @classmethod
    def again(cls, raw: list[Any]) -> Bin:
        """What ``left`` gave.

        Raises:
            ValueError, TypeError: it did not.
        """
        begin, sums, numbers, largest, histogram = raw
        found = cls(int(begin))
        found._sums, found._largest = [float(each) for each in sums], [float(each) for each in largest]
        found._numbers = [int(each) for each in numbers]
        if {len(sums), len(numbers), len(largest)} != {len(MEASURED)}:
            raise ValueError("a bin of other columns")
        found.histogram = {int(bucket): int(number) for bucket, number in histogram}
        return found


def percentiles_ms(histogram: Histogram) -> tuple[float, ...]:
    """The percentiles of PERCENTILES, exact to the scoreboard's 5 % (from 50 µs); not a number: there are no answers."""
    total = sum(histogram.values())
    if not total:
        return (_NAN,) * len(_SHARES)
    found = []
    seen = 0
    shares = iter(_SHARES)
    wanted = next(shares) * total
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        while seen >= wanted:
            found.append(bucket_middle_s(bucket) * 1000)
            share = next(shares, None)
            if share is None:
                return tuple(found)
            wanted = share * total
    raise AssertionError("all answers together are more than a share of them")


def difference(before: Sequence[int], after: Sequence[int]) -> Histogram:
    """What has come into a histogram; what was rubbish and is less now counts for nothing."""
    if before == after:
        return {}
    grown = compress(range(len(after)), map(gt, after, before))
    return {bucket: after[bucket] - before[bucket] for bucket in grown}


_MINUTE = struct.Struct(f"<B{len(MEASURED)}e")
_MINUTE_VERSION = 1
"""The first byte of a minute; one with another is of another version's columns and not read."""


def pack_minute(figures: Sequence[float], histogram: Histogram) -> bytes:
    """A minute as it is kept in memory and on disk: the figures, then a bucket and a varint for each count."""
    kept = (_bounded(figure / column.unit) for figure, column in zip(figures, MEASURED, strict=True))
    packed = bytearray(_MINUTE.pack(_MINUTE_VERSION, *kept))
    for bucket, number in sorted(histogram.items()):
        packed.append(bucket)
        rest = number
        while rest > 0x7F:  # noqa: PLR2004 -- seven bits a byte
            packed.append(rest & 0x7F | 0x80)
            rest >>= 7
        packed.append(rest)
    return bytes(packed)


def unpack_minute(packed: bytes) -> tuple[list[float], Histogram] | None:
    """What ``pack_minute`` has packed; None: it did not."""
    if len(packed) < _MINUTE.size or packed[0] != _MINUTE_VERSION:
        return None
    kept = _MINUTE.unpack_from(packed)[1:]
    figures = [figure * column.unit for figure, column in zip(kept, MEASURED, strict=True)]
    histogram: Histogram = {}
    rest = iter(packed[_MINUTE.size :])
    for bucket in rest:
        number = shift = 0
        for byte in rest:
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:  # noqa: PLR2004 -- its last
                break
        else:
            return None
        if bucket >= HISTOGRAM_BUCKETS:
            return None
        histogram[bucket] = number
    return figures, histogram


class _Minutes:
    """The last minutes of a site, packed; an hour is a list, for a dictionary would take more than they do."""

    def __init__(self) -> None:
        self._hours: dict[int, list[bytes | None]] = {}

    def put(self, begin: int, packed: bytes) -> None:
        hour, place = divmod(begin // MINUTE_S, 60)
        minutes = self._hours.get(hour)
        if minutes is None:
            while len(self._hours) > HOURS_KEPT:
                del self._hours[next(iter(self._hours))]
            minutes = self._hours[hour] = [None] * 60
        minutes[place] = packed

    def get(self, begin: int) -> bytes | None:
        hour, place = divmod(begin // MINUTE_S, 60)
        minutes = self._hours.get(hour)
        return None if minutes is None else minutes[place]

    @property
    def first(self) -> int | None:
        """When the oldest began; None: there is none."""
        if not self._hours:
            return None
        hour = min(self._hours)
        place = next(place for place, packed in enumerate(self._hours[hour]) if packed is not None)
        return (hour * 60 + place) * MINUTE_S

    @property
    def size_bytes(self) -> int:
        return sum(
            len(packed) for minutes in self._hours.values() for packed in minutes if packed is not None
        )


class SiteSeries:
    """All that is kept of one site."""

    def __init__(self) -> None:
        self.rings = {"seconds": seconds_ring(), "tens": tens_ring()}
        self._seconds, self._tens = self.rings.values()
        self._minutes = _Minutes()
        self._ten: Bin | None = None
        self._minute: Bin | None = None

    def add(self, at: int, figures: Sequence[float], histogram: Histogram) -> tuple[int, bytes] | None:
        """Add a sample: the figures of MEASURED and the answers since the one before. Gives a minute that is over."""
        self._seconds.put(at, (*figures, *percentiles_ms(histogram)))
        if self._ten is None or self._ten.begin != at - at % TEN_S:
            if self._ten is not None:
                self._tens.put(self._ten.begin, self._ten.record())
            self._ten = Bin(at - at % TEN_S)
        self._ten.add(figures, histogram)
        over = None
        if self._minute is None or self._minute.begin != at - at % MINUTE_S:
            over = self.close_minute()
            self._minute = Bin(at - at % MINUTE_S)
        self._minute.add(figures, histogram)
        return over

    def close_minute(self) -> tuple[int, bytes] | None:
        """End the running minute, if there is one, and give it."""
        if self._minute is None:
            return None
        begin, packed = self._minute.begin, pack_minute(self._minute.measured(), self._minute.histogram)
        self._minute = None
        self._minutes.put(begin, packed)
        return begin, packed

    def minute_so_far(self) -> tuple[int, bytes] | None:
        """The running minute, if there is one, as it would be kept if nothing followed; it goes on."""
        if self._minute is None:
            return None
        return self._minute.begin, pack_minute(self._minute.measured(), self._minute.histogram)

    def left(self) -> list[Any]:
        """What runs of it, for another program: JSON; the rings stand beside it."""
        return [None if each is None else each.left() for each in (self._ten, self._minute)]

    def recall(self, raw: list[Any]) -> None:
        """Go on with what ``left`` gave.

        Raises:
            ValueError, TypeError: it did not.
        """
        self._ten, self._minute = (None if each is None else Bin.again(each) for each in raw)

    @property
    def first_minute(self) -> int | None:
        """When the oldest minute that is here began; None: there is none yet."""
        running = None if self._minute is None else self._minute.begin
        return min((each for each in (self._minutes.first, running) if each is not None), default=None)

    def table(self, begin: int, end: int, step_s: int, older: dict[int, Bin] | None = None) -> Table:
        """What was measured from ``begin`` to ``end`` (s since the epoch, not included) in steps.

        ``step_s`` is 1, 10 or a multiple of 60; ``older`` has what was measured before ``first_minute``, in steps.
        """
        if step_s == SECOND_S:
            return self._seconds.table(begin, end)
        if step_s == TEN_S:
            table = self._tens.table(begin, end)
            running = self._ten
            if running is not None and table.begin <= running.begin < end:
                table.records[(running.begin - table.begin) // TEN_S] = _in_units(running.record())
            return table
        return self._in_minutes(begin - begin % step_s, end, step_s, older or {})

    def _in_minutes(self, begin: int, end: int, step_s: int, older: dict[int, Bin]) -> Table:
        table = Table(SITE, begin, step_s)
        for at in range(begin, end, step_s):
            together = older.get(at)
            found = list(self._minutes_of(at, at + step_s))
            if together is None and len(found) == 1:
                figures, histogram = found[0]
                table.add(_in_units((*figures, *percentiles_ms(histogram))))
                continue
            for figures, histogram in found:
                together = together or Bin(at)
                together.add(figures, histogram)
            table.add(None if together is None else _in_units(together.record()))
        return table

    def _minutes_of(self, begin: int, end: int) -> Iterator[tuple[Sequence[float], Histogram]]:
        for at in range(begin, end, MINUTE_S):
            packed = self._minutes.get(at)
            if packed is not None and (unpacked := unpack_minute(packed)) is not None:
                yield unpacked
            if self._minute is not None and self._minute.begin == at:
                yield self._minute.measured(), self._minute.histogram

    def sparks(self, begin: int, end: int, step_s: int) -> dict[str, list[float | None]]:
        """A few figures in steps of a multiple of ten seconds, each a mean, cheaply."""
        table = Table(tuple(SITE[place] for place in _SPARKS), begin, step_s)
        for at in range(begin, end, step_s):
            found = [record for ten in range(at, at + step_s, TEN_S) if (record := self._tens.get(ten))]
            means = [
                sum(numbers) / len(numbers)
                if (numbers := [each[place] for each in found if each[place] == each[place]])
                else _NAN
                for place in _SPARKS
            ]
            table.add(tuple(means))
        return table.lists(column.name for column in table.columns)

    @property
    def size_bytes(self) -> int:
        """What is kept, without what Python takes for its objects."""
        return self._seconds.size_bytes + self._tens.size_bytes + self._minutes.size_bytes


def in_steps(minutes: Iterable[tuple[int, bytes]], step_s: int) -> dict[int, Bin]:
    """Minutes (when each began, and what ``pack_minute`` gave) put together in steps."""
    bins: dict[int, Bin] = {}
    for at, packed in minutes:
        if (unpacked := unpack_minute(packed)) is not None:
            begin = at - at % step_s
            bins.setdefault(begin, Bin(begin)).add(*unpacked)
    return bins


STEPS = (
    (SECOND_S, SECONDS_KEPT_S),
    (TEN_S, TENS_KEPT_S),
    (MINUTE_S, None),
    (5 * MINUTE_S, None),
    (15 * MINUTE_S, None),
    (3600, None),
    (6 * 3600, None),
    (24 * 3600, None),
)
"""Steps that are chosen from, and for how long each is kept; None: as long as the archive keeps minutes."""
CHOSEN_MAX = 1500
"""A step is chosen so that there are at most so many points: a chart has no more pixels."""
POINTS_MAX = 2500
"""More points are not given at once."""


def choose_step(begin: float, end: float, now: float) -> int:
    """The finest step in which all of this time is kept and is not too long."""
    for step_s, kept_s in STEPS:
        kept = kept_s is None or begin >= now - kept_s - MINUTE_S
        if kept and (end - begin) / step_s <= CHOSEN_MAX:
            return step_s
    return STEPS[-1][0]


def seconds_ring() -> Ring:
    """The ring of a site's seconds."""
    return Ring(SITE, SECOND_S, SECONDS_KEPT_S, 60)


def tens_ring() -> Ring:
    """The ring of a site's day in steps of ten seconds."""
    return Ring(SITE, TEN_S, TENS_KEPT_S, 360)


def worker_ring() -> Ring:
    """The ring of one worker."""
    return Ring(WORKER, SECOND_S, SECONDS_KEPT_S, 60)


def _in_units(record: Sequence[float]) -> tuple[float, ...]:
    return tuple(figure / column.unit for figure, column in zip(record, SITE, strict=True))
