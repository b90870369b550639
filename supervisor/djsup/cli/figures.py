"""Figures as people read them: durations, sizes, rates, moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400
KIB = 1024
NONE = "-"


def duration(seconds: float) -> str:
    """A duration in at most two units: ``4.2s``, ``3m 12s``, ``5h 3m``, ``2d 4h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 10:  # noqa: PLR2004 -- tenths matter below ten
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in (
        (DAY_S, "d", HOUR_S, "h"),
        (HOUR_S, "h", MINUTE_S, "m"),
        (MINUTE_S, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f" {rest}{smaller_unit}" if rest else "")
    return f"{whole}s"


def age(seconds: float) -> str:
    """How long ago, in one unit: ``12s``, ``3m``, ``5h``, ``2d``."""
    for size, unit in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def size(count: float) -> str:
    """A number of bytes in three digits or so: ``512B``, ``87K``, ``128M``, ``1.2G``."""
    for unit in ("B", "K", "M", "G"):
        if count < 1000:  # noqa: PLR2004 -- three digits
            return f"{count:.1f}{unit}" if unit == "G" and count < 10 else f"{count:.0f}{unit}"  # noqa: PLR2004 -- as above
        count /= KIB
    return f"{count:.1f}T"


def rate(per_s: float) -> str:
    """A rate: ``0``, ``0.3``, ``12``, ``1240``."""
    if per_s == 0:
        return "0"
    return f"{per_s:.1f}" if per_s < 10 else f"{per_s:.0f}"  # noqa: PLR2004 -- tenths matter below ten


def milliseconds(ms: float | None) -> str:
    """A latency: ``0.4ms``, ``12ms``, ``1.3s``; a dash when there is none."""
    if ms is None:
        return NONE
    if ms >= 1000:  # noqa: PLR2004 -- a second
        return f"{ms / 1000:.1f}s" if ms < 10_000 else f"{ms / 1000:.0f}s"  # noqa: PLR2004 -- ten seconds
    return f"{ms:.1f}ms" if ms < 10 else f"{ms:.0f}ms"  # noqa: PLR2004 -- tenths matter below ten


def clock(at: str) -> str:
    """The local time of day of a moment in ISO 8601, with its date when that is not today."""
    try:
        moment = datetime.fromisoformat(at).astimezone()
    except ValueError:
        return at
    today = datetime.now(UTC).astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")


def counted(number: int, noun: str, nouns: str = "") -> str:
    """``1 site``, ``3 sites``; ``nouns`` where an s does not do."""
    return f"{number} {noun}" if number == 1 else f"{number} {nouns or noun + 's'}"


def of_trial(verdict: str) -> tuple[str, list[str]]:
    """Why a trial has ended as it did, and the figures of each side, apart: so they can be read one below the other."""
    parts = re.split(r"(?:; |: )(?=(?:new|old) code: )", verdict)
    sides = [part for part in parts if part.startswith(("new code: ", "old code: "))]
    return ("" if len(sides) == len(parts) else parts[0]), sides
