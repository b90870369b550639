"""The end of a file that others write, line by line, as ``tail -F`` has it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

BITE_BYTES = 1024 * 1024
"""The most that is read at a time, and so how far back the last lines are looked for."""
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Not through a link, and not waiting for ever at a pipe."""


class Tail:
    """Reads a file from near its end; found again by its name when it was moved. Use it as a context manager.

    Raises:
        OSError: it can't be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, FLAGS)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def last(self, limit: int) -> list[str]:
        """The last lines there are, oldest first; the first call."""
        start = os.lseek(self._fd, max(0, os.fstat(self._fd).st_size - BITE_BYTES), os.SEEK_SET)
        lines = self.more()[1 if start else 0 :]  # it began within a line
        return lines[-limit:] if limit > 0 else []

    def more(self) -> list[str]:
        """The whole lines that have come since."""
        data = os.read(self._fd, BITE_BYTES)
        if not data and self._has_moved():
            self._open_again()
            data = os.read(self._fd, BITE_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "backslashreplace") for line in lines]

    def _has_moved(self) -> bool:
        try:
            there = self._path.stat()
        except OSError:
            return False  # not yet there again
        here = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _open_again(self) -> None:
        fd = os.open(self._path, FLAGS)
        os.close(self._fd)
        self._fd = fd
        self._rest = b""
