"""What calls of the application are known to do: to wait for something outside the worker, or to compute for long.

A route is a method and a path in which every segment with a digit counts as one and the same
(``/orders/17`` and ``/orders/18``). Each has a credit: a call that did as its route is known for gives one, a
call that was quick after all takes one away, and without credit the route is forgotten. So a page that waited
once by accident costs one hand-off more, and one that always waits is known for it until it no longer does.

All of it belongs to the thread that polls.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Dict, Optional, Tuple

if TYPE_CHECKING:
    from djsup_worker.request import Line

WAITS, COMPUTES = "waits", "computes"
QUICK_NS = 2_000_000
"""A call that took less than this, in nanoseconds, did neither."""
CREDIT_MAX = 4
ROUTES_MAX = 256
"""The most routes that are known at a time; the oldest is forgotten first."""
_VARYING = re.compile(rb"/[^/]*[0-9][^/]*")


class Habits:
    """The routes that are known for something. ``known`` is empty where none is: that is all a quick request pays."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: Dict[bytes, Tuple[str, int]] = {}
        """The habit and the credit of each route."""

    def of(self, line: Line) -> Optional[str]:
        """WAITS or COMPUTES, if a request's call is known to; else None."""
        found = self.known.get(_route(line))
        return None if found is None else found[0]

    def seen(self, line: Line, what: str, duration_ns: int) -> None:
        """A call has ended without the polling role. ``what``: why it did not have it."""
        route = _route(line)
        known = self.known
        credit = known[route][1] if route in known else 0
        if what in (WAITS, COMPUTES) and duration_ns >= QUICK_NS:
            if not credit and len(known) >= ROUTES_MAX:
                del known[next(iter(known))]
            known[route] = (what, min(credit + 1, CREDIT_MAX))
        elif credit > 1:
            known[route] = (known[route][0], credit - 1)
        elif credit:
            del known[route]


def _route(line: Line) -> bytes:
    """The route of a request, kept with its line: a head that comes again has it already."""
    route = line.route
    if route is None:
        route = line.route = _VARYING.sub(b"/#", line.what)
    return route
