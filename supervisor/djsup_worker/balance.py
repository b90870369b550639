"""Which of a site's workers takes a new connection in: not the one that has more than the others already.

The kernel wakes one worker for each connection, and in a burst the first one that runs would take them all
before the others have found a processor; a keep-alive connection then stays with it. So a worker that leads
by more than SLACK stands back for a moment (its doors are not watched meanwhile, so the kernel wakes others),
the longer the more it leads. The one with the fewest never stands back, and none does for longer
than PAUSE_MAX_NS: nobody waits in vain.

While two generations serve, as in the trial of new code, it counts too how many connections each worker has
taken in since: where requests are quick nobody leads by open ones, and the kernel wakes the same worker each time,
so that new code would get all visitors or none. Who has taken in more than the others on average stands back
for a moment, and then is the last that the kernel wakes.

The others' counts are read from the scoreboard, which they write; what stands there is believed no further
than for such a pause.
"""

from __future__ import annotations

import os
import time
from typing import Dict, List, Tuple

from djsup_worker.scoreboard import (
    ACCEPTED_AT,
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
PAUSE_NS = 250_000
"""For each connection of the lead."""
PAUSE_MAX_NS = 2_000_000
SHARE_PAUSE_MAX_NS = 1_000_000
"""The same where two generations share. It is short: one that is stuck takes nothing in, and all others lead."""
LOOK_AGAIN_NS = 100_000_000
"""How long the list of the other workers is good."""
LOOK_AGAIN_SOON_NS = 2_000_000
"""The same while connections are handed over: that happens when a worker has just begun to serve."""
_SERVING = ROW_STATES.index("serving")


class Balance:
    """Compares one worker (the row ``slot``) with those of its generation that serve too."""

    def __init__(self, words: memoryview, slot: int) -> None:
        self._words = words
        self._own = slot * WORDS
        self._others: List[int] = []
        self._looked_ns = -LOOK_AGAIN_NS
        self._accepted: Dict[Tuple[int, int], int] = {}
        """What each worker, by row and pid, had taken in when two generations were first seen; empty: there is one."""

    def pause_ns(self, look_again_ns: int = LOOK_AGAIN_NS) -> int:
        """For how long this worker should take no connection in; 0: it may.

        ``look_again_ns`` is how old the list of the other workers may be.
        """
        self._look_if_old(look_again_ns)
        share_ns = self._share_ns() if self._accepted else 0
        return max(share_ns, self._lead_ns()) if self._others else share_ns

    def standing(self, look_again_ns: int) -> Tuple[int, int, int]:
        """How many connections it has, the fewest and the most that another of its generation has; alone: as it has."""
        self._look_if_old(look_again_ns)
        words = self._words
        own = words[self._own + CONNECTIONS_AT]
        others = [words[at] for at in self._others] or [own]
        return own, min(others), max(others)

    def _share_ns(self) -> int:
        """The pause of one that has taken in more than its share."""
        words = self._words
        taken = {row: words[row + ACCEPTED_AT] - before for (row, _pid), before in self._accepted.items()}
        own = taken.pop(self._own)
        lead = own - sum(taken.values()) // len(taken)
        return min(lead * PAUSE_NS, SHARE_PAUSE_MAX_NS) if lead > 0 else 0

    def _lead_ns(self) -> int:
        """The pause of one that has more connections than another of its generation."""
        words = self._words
        lead = words[self._own + CONNECTIONS_AT] - min([words[at] for at in self._others])
        return min(lead * PAUSE_NS, PAUSE_MAX_NS) if lead > SLACK else 0

    def _look_if_old(self, look_again_ns: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns >= look_again_ns:
            self._look()
            self._looked_ns = now_ns

    def _look(self) -> None:
        """See who else serves."""
        words = self._words
        own = self._own
        generation = words[own + GENERATION_AT]
        rows = [
            row
            for row in range(0, ROWS * WORDS, WORDS)
            if row != own
            and words[row + MAGIC_AT] == MAGIC
            and words[row + STATE_AT] == _SERVING
            and _lives(words[row + PID_AT])
        ]
        self._others = [row + CONNECTIONS_AT for row in rows if words[row + GENERATION_AT] == generation]
        if len(self._others) == len(rows):
            self._accepted = {}
            return
        names = [(row, words[row + PID_AT]) for row in (own, *rows)]
        self._accepted = {name: self._accepted.get(name, words[name[0] + ACCEPTED_AT]) for name in names}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
