"""What one site is to be, and where the actions about it are written down.

Shared by the parts of a pool: ``pool.py``, ``generations.py``, ``workers.py``. Decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from djsup.core import scaling
from djsup.core.notices import Notices
from djsup.core.scaling import Scaling

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.actions import Action
    from djsup.core.model import Limits, ProcId, SiteName, SiteSettings


@dataclass(slots=True, eq=False)
class Site:
    """The wishes for one site, and its outgoing actions."""

    settings: SiteSettings
    new_proc: Callable[[], ProcId]
    """Gives the name of the next process."""
    by_hand: int | None = None
    """The number of workers asked for by hand, possible or not; ``promise`` is what becomes of it."""
    scaling: Scaling = field(default_factory=Scaling)
    """The number of workers that the load asks for."""
    asleep: bool = False
    """It is to have no workers; set in ``sleep.py``."""
    error: str | None = None
    """Why it does not serve as asked."""
    out: list[Action] = field(default_factory=list)
    notices: Notices = field(init=False)

    def __post_init__(self) -> None:
        self.notices = Notices(self.settings.name, self.out)

    @property
    def name(self) -> SiteName:
        """Its name."""
        return self.settings.name

    @property
    def limits(self) -> Limits:
        """Its limits as they are now."""
        return self.settings.limits

    @property
    def promise(self) -> int:
        """How many workers are to serve."""
        if self.asleep:
            return 0
        count = self.settings.workers
        return self.scaling.number(count) if self.by_hand is None else scaling.clamp(self.by_hand, count)

    @property
    def surge(self) -> int:
        """How many workers beyond the promise may live for a while."""
        return scaling.surge(self.settings.reload.surge)

    def do(self, action: Action) -> None:
        """Write down what is to be done next."""
        self.out.append(action)

    def take(self) -> list[Action]:
        """What was written down, in order; the list is empty afterwards."""
        taken = list(self.out)
        self.out.clear()
        return taken
