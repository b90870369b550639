"""A dump of stacks: what a worker wrote of its threads when it was asked to, picked out of its standard error.

A worker that hears writes them itself. From one that is stuck in C they come by a signal: faulthandler writes them,
in C. Other threads may print in between. A worker answers within milliseconds, or never (it is stopped, or its disk
does not answer): so the waits are short, and what has come by then is all.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.shell.logs import Capture

WAIT_S = 1.0
"""How long the first line may take, after the message and after the signal."""
QUIET_S = 0.1
"""When nothing more has come for so long, that was all."""
LINES_MAX = 400
"""At most so many lines: 16 threads with 25 frames each, say."""
LINE = re.compile(r'(Current thread|Thread) 0x[0-9a-f]+|Stack \(most recent|  File "|  \.\.\.|  <')
"""How faulthandler's lines begin (CPython, Python/traceback.c)."""


class StackDump:
    """One dump of one worker's stacks, from the question on; ``done`` gets its text, which may be empty."""

    def __init__(self, capture: Capture, done: Callable[[str], None], signal: Callable[[], None]) -> None:
        """``signal`` asks once more, otherwise, when nothing has come."""
        self._capture = capture
        self._done = done
        self._signal = signal
        self._lines: list[str] = []
        capture.listeners.append(self._hear)
        self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._ask_again)

    def _ask_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WAIT_S, self.finish)
        self._signal()

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
