"""Random histories by seed: every invariant holds after every step.

``make simulate SEED=1 HISTORIES=100000`` plays more of them, or shows one (``__main__.py``).
"""

from __future__ import annotations

import pytest

from core.simulation.history import History, Name
from core.simulation.kept import KEPT

SHORT, LONG = 4_900, 100
"""5,000 histories: a short one costs 10 ms, a long one 120 ms. In a third of them daemons die, in a third they replace
their program."""
PARTS = 20


def play(name: Name) -> None:
    try:
        History(name).play()
    except Exception as error:
        error.add_note(f"history {name}: see it with make simulate SEED={name}; it belongs into kept.py")
        raise


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(300)
def test_invariants_hold_in_random_histories(part: int) -> None:
    for seed in range(part, LONG, PARTS):
        play(variant(seed, seed // PARTS, short=False))
    for seed in range(part, SHORT, PARTS):
        play(variant(seed, seed // PARTS, short=True))


def variant(seed: int, number: int, *, short: bool) -> Name:
    """A history in which the daemon dies, one in which it replaces its program, one in which it does neither."""
    return Name(seed, short=short, daemon_dies=number % 3 == 0, upgrades=number % 3 == 1)


@pytest.mark.parametrize("name", KEPT)
def test_invariants_hold_in_histories_that_once_failed(name: str) -> None:
    play(Name.read(name))


def test_a_seed_gives_the_same_history_twice() -> None:
    first: list[str] = []
    second: list[str] = []
    History(Name(3), first.append).play()
    History(Name(3), second.append).play()
    assert first == second
