"""Whether there is to be a keeper.

It holds what programs need to outlive the daemon, and ends them when no other daemon comes (``djsup/keeper``). While the
daemon lives it does nothing, so nothing is lost with one that dies: the next one gets the same from the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djsup.core.actions import Action
    from djsup.core.own_process import OwnProcess


class Keeper:
    """The keeper of a fleet."""

    def __init__(self, process: OwnProcess) -> None:
        self.process = process
        self._holds = False
        """Some of the programs that live may have been started to outlive the daemon."""

    def adopt(self) -> None:
        """Programs of an earlier daemon are there, which nothing else ends when this one dies."""
        self._holds = True

    def keep(self, now: float, *, wanted: bool, living: bool) -> list[Action]:
        """Start it, or end it, if that is due.

        Args:
            now: the time.
            wanted: programs that are started now are to outlive the daemon.
            living: there are programs.
        """
        self._holds = living and (self._holds or wanted)
        return self.process.keep(now, needed=wanted or self._holds)
