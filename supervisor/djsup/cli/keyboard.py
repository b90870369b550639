"""The keyboard: single keys from a terminal, without Enter and without an echo, while somebody looks.

Knows termios and the escape sequences of the arrows. What a key means is its caller's affair.
"""

from __future__ import annotations

import os
import select
import termios
import tty
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

UP, DOWN, LEFT, RIGHT, ENTER, ESCAPE = "up", "down", "left", "right", "enter", "escape"
GONE = "gone"
"""The terminal was closed."""
_SEQUENCES = {"A": UP, "B": DOWN, "C": RIGHT, "D": LEFT}
_PLAIN = {"\r": ENTER, "\n": ENTER}
ESCAPE_S = 0.05
"""An arrow's sequence comes at once; an Escape that is followed by nothing was the key."""


class Keyboard:
    """The keys of one terminal; as a context it sets the terminal up, and puts it back at its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before = termios.tcgetattr(fd)

    def __enter__(self) -> Self:
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(termios.error):  # it has gone away
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def key(self, timeout_s: float) -> str | None:
        """The next key, by its character or its name; None when none was pressed in time."""
        if not self._waits(timeout_s):
            return None
        first = self._read()
        if first != "\x1b":
            return _PLAIN.get(first, first)
        if not self._waits(ESCAPE_S) or self._read() not in ("[", "O"):
            return ESCAPE
        return _SEQUENCES.get(self._read() if self._waits(ESCAPE_S) else "", ESCAPE)

    def _waits(self, timeout_s: float) -> bool:
        return bool(select.select([self._fd], [], [], timeout_s)[0])

    def _read(self) -> str:
        try:
            return os.read(self._fd, 1).decode("utf-8", "replace") or GONE
        except OSError:
            return GONE
