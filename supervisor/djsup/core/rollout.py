"""One reload, or one first load: bind, check, load, prove, try, change over; or roll back.

Knows how far it has come. Which processes that needs is decided in ``pool.py``, which also calls
``move`` with what it sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from djsup.core.moves import step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.canary import Trial
    from djsup.core.hooks import Hook
    from djsup.core.model import Canary, Generation, ProcId, SiteSettings


class Phase(Enum):
    """How far a reload has come."""

    BINDING = "binding"
    """The addresses that it needs are being bound."""
    CHECKING = "checking"
    """A command of the site is run, ``before`` of its reload table; it may refuse."""
    LOADING = "loading"
    """The template imports the application."""
    PROVING = "proving"
    """Its first worker boots and asks itself the health question."""
    TRYING = "trying"
    """It answers a share of the real traffic beside the old generation (``canary.py``)."""
    CHANGING = "changing"
    """One new worker more, one old worker drained, and so on."""
    DONE = "done"
    """The new generation serves alone."""
    ROLLED_BACK = "rolled-back"
    """It failed; the old generation serves as before."""
    SUPERSEDED = "superseded"
    """A newer reload took its place; the old generation serves as before."""


class Move(Enum):
    """What happens to a reload."""

    BOUND = "bound"
    """Every address is bound, and no command is to be run before the code is loaded."""
    CHECK = "check"
    """Every address is bound, and a command is to be run before the code is loaded."""
    CHECKED = "checked"
    """The command has ended well."""
    LOADED = "loaded"
    """The application is imported, or there is no template to import it."""
    PROVED = "proved"
    """The first worker is healthy, and no trial was asked for."""
    TRY = "try"
    """The first worker is healthy, and its answers are to be compared with the old generation's."""
    PASSED = "passed"
    """They were as good, or too few to judge."""
    CHANGED = "changed"
    """As many new workers serve as are promised, and no old one takes connections."""
    FAIL = "fail"
    """Something of the new generation went wrong."""
    SUPERSEDE = "supersede"
    """A newer reload was asked for, or the site is to stop."""


_ENDS: Mapping[Move, Phase] = {Move.FAIL: Phase.ROLLED_BACK, Move.SUPERSEDE: Phase.SUPERSEDED}

MOVES: Mapping[Phase, Mapping[Move, Phase]] = {
    Phase.BINDING: {Move.BOUND: Phase.LOADING, Move.CHECK: Phase.CHECKING, **_ENDS},
    Phase.CHECKING: {Move.CHECKED: Phase.LOADING, **_ENDS},
    Phase.LOADING: {Move.LOADED: Phase.PROVING, **_ENDS},
    Phase.PROVING: {Move.PROVED: Phase.CHANGING, Move.TRY: Phase.TRYING, **_ENDS},
    Phase.TRYING: {Move.PASSED: Phase.CHANGING, **_ENDS},
    Phase.CHANGING: {Move.CHANGED: Phase.DONE, **_ENDS},
    Phase.DONE: {},
    Phase.ROLLED_BACK: {},
    Phase.SUPERSEDED: {},
}


@dataclass(slots=True, eq=False)
class Rollout:
    """One reload that runs."""

    generation: Generation
    settings: SiteSettings
    by: str
    reported: bool
    """It is a reload, with a report; False: a first load, or its retry."""
    began_at: float
    phase: Phase = Phase.BINDING
    proof: ProcId | None = None
    """The first worker."""
    canary_s: float | None = None
    """For how long who asked wants its code tried; None: as the settings say."""
    canary: Canary | None = None
    """What its trial is to be; None: there is none."""
    trial: Trial | None = None
    """The trial, once it has begun."""
    verdict: str = ""
    """How the trial has ended, with its figures."""
    replaces: bool = False
    """It replaces something that serves: the commands before and after it are run, and it takes its time."""
    hook: Hook | None = None
    """The command that runs before it."""
    waits_since: float = field(init=False)
    """When it was last seen that the addresses it waits for are to come free."""

    def __post_init__(self) -> None:
        self.waits_since = self.began_at

    def move(self, move: Move) -> None:
        """Take one step in the table.

        Raises:
            UnknownMoveError: this cannot happen now.
        """
        self.phase = step(MOVES, self.phase, move)
