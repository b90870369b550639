"""``make simulate SEED=1 HISTORIES=1000``: so many random histories, on all cores; or one, told step by step.

SEED is the first seed; each seed is played in one of four ways in turn: long, short, and each of them with daemons
that die. SEED=117sd names one history (short, the daemon dies), as a failure prints it: it is played alone and
every event and action of it is printed.
"""

from __future__ import annotations

import os
import sys
import time
from multiprocessing import Pool
from typing import TYPE_CHECKING

from core.simulation.history import History, Name

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORIES = 1000
SAID_EVERY_S = 10.0


def names(seed: int, histories: int) -> Iterator[str]:
    """The histories of a run, by name: the same for the same numbers."""
    for number in range(seed, seed + histories):
        yield str(Name(number, short=number % 4 in {1, 2}, daemon_dies=number % 4 in {2, 3}))


def play(name: str) -> tuple[str, int, str]:
    """A history, the steps it took, and what is wrong with it; "": nothing."""
    history = History(Name.read(name))
    try:
        history.play()
    except Exception as error:  # noqa: BLE001 - whatever is wrong, it is this history's finding
        return name, history.steps, f"{type(error).__name__}: {error}"
    return name, history.steps, ""


def play_many(seed: int, histories: int) -> int:
    """Play them and print those that fail; how many did."""
    begun = said = time.monotonic()
    steps = failed = played = 0
    with Pool(os.cpu_count()) as pool:
        for name, took, wrong in pool.imap_unordered(play, names(seed, histories), chunksize=8):
            played, steps = played + 1, steps + took
            if wrong:
                failed += 1
                print(f"FAILED {name}: {wrong}")
                print(f'  see it: make simulate SEED={name}   keep it: add "{name}" to KEPT in {kept()}')
            if time.monotonic() - said > SAID_EVERY_S:
                said = time.monotonic()
                print(f"  {played} of {histories} histories, {failed} failed", flush=True)
    seconds = time.monotonic() - begun
    print(f"{played} histories from seed {seed}, {steps} steps, {failed} failed, {seconds:.0f} s")
    return failed


def kept() -> str:
    """The file that keeps what has failed once."""
    return "tests/core/simulation/kept.py"


def main(arguments: list[str]) -> int:
    """Play what was asked for; the exit status."""
    try:
        seed, histories = (*arguments, *("1", str(HISTORIES))[len(arguments) :])
        if seed.isdecimal() and int(histories) != 1:
            return 1 if play_many(int(seed), int(histories)) else 0
        name = Name.read(seed)
    except ValueError as error:
        print(f"usage: make simulate SEED=1 HISTORIES={HISTORIES}, or SEED=117sd: {error}", file=sys.stderr)
        return 2
    History(name, print).play()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
