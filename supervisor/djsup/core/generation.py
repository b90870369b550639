"""One generation as it lives: what it was loaded from and what makes its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djsup.core.template import State, Template

if TYPE_CHECKING:
    from djsup.core.backoff import Backoff
    from djsup.core.model import Generation, SiteSettings


@dataclass(slots=True, eq=False)
class LiveGeneration:
    """One load of a site's code and settings, while any process of it is left or wanted."""

    number: Generation
    settings: SiteSettings
    """What it was loaded with; limits and numbers of workers may have changed since."""
    forks: bool
    """Its workers are forked from a template; False: each boots by itself."""
    deaths: Backoff
    """Early deaths of its workers in a row."""
    template: Template | None = None
    note: str = ""
    """Why it runs without a template though one was wanted, or with one that looks unsafe."""
    python: str = ""
    django: str = ""

    @property
    def can_make_workers(self) -> bool:
        """Whether a worker of it can be had now."""
        return not self.forks or (self.template is not None and self.template.state is State.LOADED)

    @property
    def barren(self) -> bool:
        """Whether it will never make a worker again: its template is lost."""
        return self.forks and self.template is None
