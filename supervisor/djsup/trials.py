"""What the generations of a site answer while more than one serves: one look a second, told as an event.

Knows the rows of the scoreboards, which a site's code writes: what they say is believed as a figure and as
nothing else. What follows from the figures is decided in ``core/canary.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from djsup.core.events import Answers, GenerationsSampled
from djsup_worker import scoreboard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from djsup.core.model import Generation, ProcId, SiteName
    from djsup.performer import Process
    from djsup_worker.scoreboard import Row

FAILED_CLASS = 4
"""Where the answers 5xx stand in a row's classes."""


@dataclass(slots=True)
class Comparison:
    """The generations of one site that serve at one time."""

    seen: dict[ProcId, Row] = field(default_factory=dict)
    """What each worker had counted at the last look."""
    gone: list[tuple[Generation, Row, Row | None]] = field(default_factory=list)
    """Workers that have gone since: their last row, and what had been seen of it."""


class Trials:
    """All sites of which more than one generation serves."""

    def __init__(self) -> None:
        self._sites: dict[SiteName, Comparison] = {}
        self._before: dict[SiteName, list[tuple[Process, Row]]] = {}
        """What was seen of each site at the last look while one generation served."""

    def look(self, site: SiteName, found: Iterable[tuple[Process, Row]]) -> GenerationsSampled | None:
        """What was answered since the last look; None: one generation serves, so there is nothing to compare."""
        serving = [(process, row) for process, row in found if process.ready]
        numbers = {process.generation for process, _ in serving}
        known = self._sites.get(site)
        if len(numbers) <= 1:
            self._sites.pop(site, None)
            self._before[site] = serving
            return None
        if known is None:
            known = self._sites[site] = Comparison()
            if site not in self._before:  # a daemon that has only just begun to look: it knows of no before
                known.seen = {process.proc: row for process, row in serving}
                return None
            newest = max(numbers)  # what it has counted, it has counted since it serves
            known.seen = {each.proc: row for each, row in serving if each.generation != newest}
            known.seen.update((each.proc, row) for each, row in self._before.pop(site, ()))
        pieces = [(process.generation, row, known.seen.get(process.proc)) for process, row in serving]
        pieces += known.gone
        known.gone.clear()
        known.seen = {process.proc: row for process, row in serving}
        return GenerationsSampled(site, tuple(_sums(pieces)))

    def forget(self, site: SiteName) -> None:
        """This site is there no more."""
        self._sites.pop(site, None)
        self._before.pop(site, None)

    def retire(self, process: Process, row: Row) -> None:
        """A worker is gone: what it did since the last look counts."""
        if process.ready and (known := self._sites.get(process.site)) is not None:
            known.gone.append((process.generation, row, known.seen.pop(process.proc, None)))


def _sums(pieces: list[tuple[Generation, Row, Row | None]]) -> Iterator[Answers]:
    for number in sorted({generation for generation, _, _ in pieces}):
        requests = failed = 0
        buckets = [0] * scoreboard.HISTOGRAM_BUCKETS
        for generation, row, before in pieces:
            if generation != number:
                continue
            requests += max(0, row.requests - (0 if before is None else before.requests))
            failed += max(
                0, row.classes[FAILED_CLASS] - (0 if before is None else before.classes[FAILED_CLASS])
            )
            for bucket, count in enumerate(row.histogram):
                buckets[bucket] += max(0, count - (0 if before is None else before.histogram[bucket]))
        took = ((scoreboard.bucket_middle_s(bucket), count) for bucket, count in enumerate(buckets) if count)
        yield Answers(number, requests, min(failed, requests), tuple(took))
