"""Deploys: the reloads and rollbacks of each site that are over, and what became of them.

Made of the events that the core publishes, with the report of the reload where it is still there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from djsup.core.actions import NoticeKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.snapshot import ReloadReport
    from djsup.shell.history import Entry

KEPT = 100
"""Of each site."""
TRACEBACK_MAX = 8 * 1024
"""Characters; the end is kept, for it says what went wrong."""
_RESULTS = {
    NoticeKind.RELOAD_DONE.value: "done",
    NoticeKind.RELOAD_ROLLED_BACK.value: "rolled-back",
    NoticeKind.RELOAD_SUPERSEDED.value: "superseded",
}


@dataclass(frozen=True, slots=True)
class Deploy:
    """One reload or rollback of one site. Times are ISO 8601 in UTC."""

    id: int
    site: str
    generation: int | None
    started_at: str
    duration_s: float
    result: str
    error: str | None
    traceback: str
    by: str

    def to_json(self) -> dict[str, Any]:
        """As the control socket shows it, and as it is kept."""
        return {name: getattr(self, name) for name in self.__slots__}


class Deploys:
    """The last deploys of every site. ``report`` gives a site's last reload as the core reports it."""

    def __init__(self, report: Callable[[str], ReloadReport | None]) -> None:
        self._report = report
        self._sites: dict[str, deque[Deploy]] = {}
        self._running: dict[str, Entry] = {}
        self._numbers = count(1)
        self.keep: Callable[[Deploy], None] = lambda _deploy: None
        """Called with each new one."""

    def see(self, entry: Entry) -> None:
        """An event has happened."""
        if entry.site is None:
            return
        if entry.kind == NoticeKind.RELOAD_STARTED.value:
            self._running[entry.site] = entry
            return
        result = _RESULTS.get(entry.kind)
        if result is None:
            return
        begun = self._running.pop(entry.site, None)
        if begun is None or begun.generation != entry.generation:
            begun = entry  # it began before we did
        took_s = (datetime.fromisoformat(entry.at) - datetime.fromisoformat(begun.at)).total_seconds()
        report = self._report(entry.site)
        if report is None or report.generation != entry.generation:
            report = None  # a newer one runs already
        error = None if result == "done" else entry.text if report is None else report.error
        deploy = Deploy(
            next(self._numbers),
            entry.site,
            entry.generation,
            begun.at,
            round(max(0.0, took_s if report is None else report.duration_s), 3),
            result,
            error,
            entry.details[-TRACEBACK_MAX:],
            entry.by or begun.by,
        )
        self._add(deploy)
        self.keep(deploy)

    def recall(self, deploys: list[dict[str, Any]]) -> None:
        """Begin with what an earlier daemon has kept, oldest first; what cannot be read is left out."""
        last = 0
        for each in deploys:
            try:
                deploy = Deploy(**each)
            except TypeError:
                continue
            self._add(deploy)
            last = max(last, deploy.id)
        self._numbers = count(last + 1)

    def last(
        self, site: str, limit: int, before: int | None = None, begin: str = "", end: str = "~"
    ) -> list[Deploy]:
        """The last deploys of a site, newest first: those with smaller numbers than ``before``, begun in some time."""
        found = [
            each
            for each in reversed(self._sites.get(site, ()))
            if (before is None or each.id < before) and begin <= each.started_at < end
        ]
        return found[:limit]

    def _add(self, deploy: Deploy) -> None:
        self._sites.setdefault(deploy.site, deque(maxlen=KEPT)).append(deploy)
