"""The doorkeeper: the dashboard's tokens, as hashes, read from their files and read again when these change.

The dashboard's process never sees a token nor its file: it is told the hashes, at its start and whenever they are
others. Files are looked at once a second, one call of stat(2) each. A file that is of no use changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from djsup.core.actions import Level
from djsup.shell.runtime import read_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.core.model import DashboardSettings

Look = tuple[int, ...] | None
"""What stat(2) says of a file: which it is, how long, and when it changed; None: not there."""


class Doorkeeper:
    """Knows the hashes of all valid tokens. ``say`` takes a kind, a line for people, and how much it matters."""

    def __init__(self, say: Callable[[str, str, Level], None]) -> None:
        self._say = say
        self._files: dict[str, str] = {}
        """The file of each kind of token: full and read."""
        self._hashes: dict[str, tuple[str, ...]] = {}
        self._taken: dict[str, Look] = {}
        """How a file was when it was last read, or tried to."""
        self._seen: dict[str, Look] = {}
        self._changed = asyncio.Event()

    def adopt(self, dashboard: DashboardSettings | None) -> None:
        """Go by these settings; the tokens are read when the dashboard is started."""
        files = {}
        if dashboard is not None:
            files["full"] = dashboard.token_file
            if dashboard.read_token_file is not None:
                files["read"] = dashboard.read_token_file
        if files != self._files:
            self._files = files
            self._hashes, self._taken, self._seen = {}, {}, {}

    def read(self) -> dict[str, list[str]]:
        """Read every file, make those that are not there yet, and give the hashes.

        Raises:
            OSError: a file can't be read or made.
            ValueError: a file has no token.
        """
        for kind, file in self._files.items():
            self._hashes[kind] = read_tokens(Path(file))
            self._taken[kind] = self._seen[kind] = _look_at(file)
        return self.hashes()

    def hashes(self) -> dict[str, list[str]]:
        """The SHA-256 of each token in hex: ``full`` may do everything, ``read`` only look."""
        return {kind: list(self._hashes.get(kind, ())) for kind in ("full", "read")}

    def look(self) -> None:
        """Look whether a file has changed, and take what is in it once it is the same at two looks."""
        for kind in self._hashes:
            file = self._files[kind]
            now = _look_at(file)
            settled = now == self._seen[kind]
            self._seen[kind] = now
            if not settled or now == self._taken[kind]:
                continue
            self._taken[kind] = now
            try:
                if now is None:
                    raise FileNotFoundError(2, "it is gone")
                hashes = read_tokens(Path(file))
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                text = f"dashboard: the tokens of {file} stay as they were: {reason}"
                self._say("tokens-refused", text, Level.ERROR)
                continue
            if hashes != self._hashes[kind]:
                self._hashes[kind] = hashes
                text = (
                    f"dashboard: {file} has changed; a token that is not in it any more is not valid any more"
                )
                self._say("tokens-changed", text, Level.INFO)
                self._changed.set()
                self._changed = asyncio.Event()

    async def change(self) -> None:
        """Wait until other tokens are valid."""
        await self._changed.wait()


def _look_at(file: str) -> Look:
    try:
        found = os.stat(file)  # noqa: PTH116 -- without making a path a second
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
