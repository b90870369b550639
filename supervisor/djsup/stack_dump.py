"""A dump of stacks: what a worker wrote of its threads when it was asked to, picked out of its standard error.

faulthandler writes them from a signal handler, in C, so they come from a worker that is stuck in C, too; other
threads may print in between. A worker answers within milliseconds, or never (it is stopped, or its disk does not
answer): so the wait is short, and what has come by then is all.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.shell.logs import Capture

WAIT_S = 1.0
"""How long the first line may take."""
QUIET_S = 0.1
"""When nothing more has come for so long, that was all."""
LINES_MAX = 400
"""At most so many lines: 16 threads with 25 frames each, say."""
LINE = re.compile(r'(Current thread|Thread) 0x[0-9a-f]+|Stack \(most recent|  File "|  \.\.\.|  <')
"""How faulthandler's lines begin (CPython, Python/traceback.c)."""


class StackDump:
    """One dump of one worker's stacks, from the signal on; ``done`` gets its text, which may be empty."""

    def __init__(self, capture: Capture, done: Callable[[str], None]) -> None:
        self._capture = capture
        self._done = done
        self._lines: list[str] = []
        capture.listeners.append(self._hear)
        self._timer = asyncio.get_running_loop().call_later(WAIT_S, self.finish)

    def _hear(self, line: str) -> None:
        if LINE.match(line) and len(self._lines) < LINES_MAX:
            self._lines.append(line)
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self.finish)

    def finish(self) -> None:
        """That was all; also when the worker is gone before the time is over. Does nothing the second time."""
        self._timer.cancel()
        if self._hear in self._capture.listeners:
            self._capture.listeners.remove(self._hear)
            self._done("\n".join(self._lines))
