"""The snapshot that the judges look at, taken once a step: to take it costs more than any rule that reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.core.fleet import Fleet

if TYPE_CHECKING:
    from djsup.core.model import SiteName
    from djsup.core.snapshot import SiteSnapshot


class Picture:
    """The fleet as it was after the last event.

    Between two events nothing changes in it but ages and waiting times, which no judge reads here.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.sites: tuple[SiteSnapshot, ...] = ()

    def take(self, now: float, fleet: Fleet | None = None) -> None:
        """Take it anew, of another fleet perhaps."""
        self._fleet = self._fleet if fleet is None else fleet
        self.sites = self._fleet.snapshot(now)

    def site(self, name: SiteName) -> SiteSnapshot | None:
        return next((each for each in self.sites if each.name == name), None)
