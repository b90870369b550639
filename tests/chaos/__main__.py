"""``make chaos CHAOS_SECONDS=600``: faults injected on purpose into a real daemon under load.

Exit status 1: an invariant did not hold; the end of the daemon's log is printed. The seed repeats the dice, not the
kernel's timing: the same faults in the same order, on processes that may be in another state.
"""

from __future__ import annotations

import argparse
import random
import sys

from chaos.faults import FAULTS, daemon_killed
from chaos.fleet import Fleet
from chaos.run import Run


def main(arguments: list[str]) -> int:
    """Run for a bounded time and print the table; the exit status."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", help="faults by name, separated by commas", default="")
    asked = parser.parse_args(arguments)
    known = {fault.__name__: fault for fault in (*FAULTS, daemon_killed)}
    faults = [known[name] for name in asked.only.split(",") if name] or FAULTS
    print(f"seed {asked.seed}, {asked.seconds:g} s", flush=True)
    fleet = Fleet()
    try:
        run = Run(fleet, asked.seed, lambda text: print(f"  {text}", flush=True))
        run.play(asked.seconds, faults)
        print(run.table())
        if run.broken:
            print(f"--- the end of the daemon's log ---\n{fleet.daemon.log[-6000:]}")
            print(f"BROKEN with seed {asked.seed}:", *run.broken[:10], sep="\n  ")
    finally:
        fleet.close()
    return 1 if run.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
