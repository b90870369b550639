"""Random histories by seed: every invariant holds after every step, and every planted bug is caught.

``make simulate SEED=1 HISTORIES=100000`` plays more of them, or shows one (``__main__.py``).
"""

from __future__ import annotations

import pytest

from core.simulation.history import History, Name
from core.simulation.kept import KEPT
from core.simulation.planted import PLANTED, Planted

SHORT, LONG = 9_800, 200
"""10,000 histories: a short one costs 5 ms, a long one 90 ms. In every second one daemons die."""
PARTS = 20
SEEDS_FOR_A_BUG = 120
"""A planted bug has to show within so many seeds or in a kept one; most do within ten."""


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
        play(Name(seed, daemon_dies=seed // PARTS % 2 == 0))
    for seed in range(part, SHORT, PARTS):
        play(Name(seed, short=True, daemon_dies=seed // PARTS % 2 == 0))


@pytest.mark.parametrize("name", KEPT)
def test_invariants_hold_in_histories_that_once_failed(name: str) -> None:
    play(Name.read(name))


def test_a_seed_gives_the_same_history_twice() -> None:
    first: list[str] = []
    second: list[str] = []
    History(Name(3), first.append).play()
    History(Name(3), second.append).play()
    assert first == second


@pytest.mark.parametrize("planted", PLANTED, ids=lambda each: each.bug.replace(" ", "-"))
def test_simulation_catches_planted_bug(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant(monkeypatch)
    kept = [each for each in map(Name.read, KEPT) if each.daemon_dies == planted.daemon_dies]
    for name in (*(Name(seed, daemon_dies=planted.daemon_dies) for seed in range(SEEDS_FOR_A_BUG)), *kept):
        try:
            History(name).play()
        except (AssertionError, KeyError):  # BrokenError and UnknownMoveError are assertions
            return
    pytest.fail(f"{SEEDS_FOR_A_BUG} histories, and nobody noticed that {planted.bug}")
