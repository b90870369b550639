"""A table of moves: which state follows from which, keyed by names.

Knows only how to look a move up. The tables themselves stand beside their states, in
``worker.py``, ``template.py`` and ``rollout.py``; a move that a state does not know raises.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=Enum)
M = TypeVar("M", bound=Enum)


class UnknownMoveError(AssertionError):
    """Something happened that cannot happen in this state."""


def step(moves: Mapping[S, Mapping[M, S]], state: S, move: M) -> S:
    """The state that follows.

    Raises:
        UnknownMoveError: the table has no such move from this state.
    """
    after = moves[state].get(move)
    if after is None:
        raise UnknownMoveError(f"{state.name} knows no {move.name}")
    return after
