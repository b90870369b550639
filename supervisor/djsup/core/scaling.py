"""How many workers a site is to have.

Knows the settings and what was asked for by hand. What the load asks for comes to stand here too.
"""

from __future__ import annotations

from djsup.core.model import SLOTS, WorkerCount

SLOTS_RESERVE = 28
"""Rows kept for workers beyond the promise: the surge, and those that take long to drain."""
WORKERS_MAX = SLOTS - SLOTS_RESERVE
"""The most workers that a site is promised."""


def clamp(workers: int) -> int:
    """The nearest number of workers that a site can have."""
    return max(1, min(workers, WORKERS_MAX))


def promised(count: WorkerCount, by_hand: int | None) -> int:
    """How many workers are promised: what was asked for by hand, else the least that is configured."""
    return clamp(count.least if by_hand is None else by_hand)


def surge(configured: int) -> int:
    """How many workers beyond the promise may live at one time; at least one, or nothing could be replaced."""
    return max(1, min(configured, SLOTS_RESERVE))
