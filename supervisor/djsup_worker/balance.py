"""Which of a site's workers takes a new connection in: not the one that has more than the others already.

The kernel wakes one worker for each connection, and in a burst the first one that runs would take them all
before the others have found a processor; a keep-alive connection then stays with it. So a worker that leads
by more than SLACK stands back for a moment (its doors are not watched meanwhile, so the kernel wakes others),
the longer the more it leads. The one with the fewest never stands back, and none does for longer
than PAUSE_MAX_NS: nobody waits in vain.

The others' counts are read from the scoreboard, which they write; what stands there is believed no further
than for such a pause.
"""

from __future__ import annotations

import os
import time
from typing import List

from djsup_worker.scoreboard import (
    CONNECTIONS_AT,
    GENERATION_AT,
    MAGIC,
    MAGIC_AT,
    PID_AT,
    ROW_STATES,
    ROWS,
    STATE_AT,
    WORDS,
)

SLACK = 1
PAUSE_NS = 1_000_000
"""For each connection of the lead."""
PAUSE_MAX_NS = 20_000_000
LOOK_AGAIN_NS = 100_000_000
"""How long the list of the other workers is good."""
_SERVING = ROW_STATES.index("serving")


class Balance:
    """Compares one worker (the row ``slot``) with those of its generation that serve too."""

    def __init__(self, words: memoryview, slot: int) -> None:
        self._words = words
        self._own = slot * WORDS
        self._others: List[int] = []
        self._good_until_ns = 0

    def pause_ns(self) -> int:
        """For how long this worker should take no connection in; 0: it may."""
        now_ns = time.monotonic_ns()
        if now_ns >= self._good_until_ns:
            self._others = self._find_others()
            self._good_until_ns = now_ns + LOOK_AGAIN_NS
        if not self._others:
            return 0
        words = self._words
        fewest = min([words[at] for at in self._others])
        lead = words[self._own + CONNECTIONS_AT] - fewest
        return min(lead * PAUSE_NS, PAUSE_MAX_NS) if lead > SLACK else 0

    def _find_others(self) -> List[int]:
        """Where the counts of the others stand."""
        words = self._words
        own = self._own
        generation = words[own + GENERATION_AT]
        return [
            row + CONNECTIONS_AT
            for row in range(0, ROWS * WORDS, WORDS)
            if row != own
            and words[row + MAGIC_AT] == MAGIC
            and words[row + GENERATION_AT] == generation
            and words[row + STATE_AT] == _SERVING
            and _lives(words[row + PID_AT])
        ]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
