"""How long to wait before the next try, after so many failures in a row.

Knows numbers only. What counts as a failure, and what ends the row, is decided in ``pool.py`` and
``program.py``. The jitter comes from a name and the count, so that many sites do not retry in
step and yet a simulation gives the same history twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djsup.core.memory import FailuresLeft

BASE_S = 0.1
MOST_S = 30.0
JITTER = 0.25
"""The most that is added, as a share of the delay."""
DOUBLINGS_MAX = 9
"""``0.1 * 2**9`` is above MOST_S: more doublings change nothing, and ``2.0**1024`` would overflow."""
COUNT_MAX = 1_000
"""Failures are counted up to here: every number has a limit."""


def _share(name: str, count: int) -> float:
    """A number from 0 up to 1, the same for the same arguments (FNV-1a, 32 bits).

    ``hash()`` would not do: it differs from process to process.
    """
    value = 2166136261
    for byte in f"{name}:{count}".encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    # FNV's high bits hardly differ between texts that differ in the last byte: fold and mix.
    value = ((value ^ (value >> 15)) * 2246822519) & 0xFFFFFFFF
    return ((value ^ (value >> 13)) & 0xFFFF) / 0x10000


def delay_s(name: str, count: int) -> float:
    """Seconds to wait after ``count`` failures in a row; none after none."""
    if count <= 0:
        return 0.0
    base = min(MOST_S, BASE_S * 2.0 ** min(count, DOUBLINGS_MAX))
    return base * (1.0 + JITTER * _share(name, count))


def spread(name: str, number: int, share: float) -> float:
    """A factor from 1 up to ``1 + share``, so that equals do not reach a limit together."""
    return 1.0 + share * _share(name, number)


@dataclass(slots=True)
class Backoff:
    """Failures in a row of one thing, and when it may be tried again."""

    name: str
    count: int = 0
    failed_at: float | None = None
    next_at: float | None = None
    """Not before this time; None: now."""

    def failed(self, now: float) -> None:
        """One more failure in the row."""
        self.count = min(self.count + 1, COUNT_MAX)
        self.failed_at = now
        self.next_at = now + delay_s(self.name, self.count)

    def reset(self) -> None:
        """The row has ended."""
        self.count = 0
        self.failed_at = None
        self.next_at = None

    def hurry(self) -> None:
        """Somebody asked: try now. The row goes on."""
        self.next_at = None

    def remember(self, left: FailuresLeft) -> None:
        """Go on with the row that another program of the daemon has counted."""
        self.count = min(max(0, left.count), COUNT_MAX)
        self.failed_at, self.next_at = left.failed_at, left.next_at

    def allows(self, now: float) -> bool:
        """Whether it may be tried now."""
        return self.next_at is None or now >= self.next_at
