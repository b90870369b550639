"""What the scripts tell the person who typed ``make``: one line a step, and a log's end when one failed."""

import sys
from pathlib import Path

LOG_LINES = 30
"""How many lines of a failed step's log are shown."""


class Failure(Exception):
    """The verb cannot be done; the text says why and what to do."""


def say(text: str) -> None:
    """Print one line at once, so that it stands before what a child process prints."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show_end(log: Path) -> None:
    """Print the last lines of a log."""
    for line in log.read_text(errors="replace").splitlines()[-LOG_LINES:]:
        say(f"    {line}")
