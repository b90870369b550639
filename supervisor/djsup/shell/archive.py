"""The archive: events on disk (SQLite), so that they outlive the daemon. Bounded in number, age and size.

A thread of its own writes, from a bounded queue: a full or a slow disk loses events of the archive, which is said
once, and never stops the supervision. What an event is, is ``history``'s affair; here it is a number, a time and JSON.
"""

from __future__ import annotations

import json
import os
import queue
import sqlite3
import threading
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEPT = 20_000
KEPT_FOR = timedelta(days=90)
SIZE_MAX_BYTES = 64 * 1024 * 1024
QUEUE_EVENTS = 5_000
PRUNE_EVERY = 500
"""Events between two looks at what is too old or too much."""
PAGE_BYTES = 4096
_TABLE = "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, at TEXT NOT NULL, entry TEXT NOT NULL)"


class Archive:
    """The events of one runtime directory."""

    def __init__(self, path: Path) -> None:
        self.trouble: Callable[[str], object] = lambda _reason: None
        """Called in the archive's thread, once for each new reason, when it cannot write."""
        self._path = path
        self._queue: queue.Queue[tuple[int, str, dict[str, Any]] | None] = queue.Queue(QUEUE_EVENTS)
        self._failed = ""
        self._thread: threading.Thread | None = None

    def recall(self, limit: int) -> list[dict[str, Any]]:
        """The last events, oldest first; none when the file cannot be read. To be called before ``start``."""
        try:
            with closing(self._open()) as database:
                rows = database.execute(
                    "SELECT entry FROM events ORDER BY id DESC LIMIT ?", (limit,)
                ).fetchall()
                return [json.loads(entry) for (entry,) in reversed(rows)]
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):  # not a database any more: begin anew
                with suppress(OSError):
                    self._path.replace(self._path.with_suffix(".broken"))
            return []
        except (OSError, ValueError):
            return []

    def start(self) -> None:
        """Begin to write, or go on after ``close``. A thread that is stuck ends when it gets free, or this one does."""
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()

    def add(self, number: int, at: str, entry: dict[str, Any]) -> None:
        """Keep an event; never waits. Times are ISO 8601 in UTC."""
        with suppress(queue.Full):
            self._queue.put_nowait((number, at, entry))

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, at most for the time given."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        written = 0
        while (item := self._queue.get()) is not None:
            try:
                with closing(self._open()) as database:
                    # One connection while events come one behind the other.
                    while item is not None:
                        self._write(database, item)
                        written += 1
                        if written % PRUNE_EVERY == 1:
                            _prune(database, KEPT)
                        try:
                            item = self._queue.get_nowait()
                        except queue.Empty:
                            break
                    self._failed = ""
                    if item is None:
                        return
            except (sqlite3.Error, OSError) as error:
                self._say(f"cannot write the events to {self._path}: {error}")

    @staticmethod
    def _write(database: sqlite3.Connection, item: tuple[int, str, dict[str, Any]]) -> None:
        number, at, entry = item
        row = (number, at, json.dumps(entry))
        try:
            database.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", row)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            _prune(database, KEPT // 4)  # large ones: the oldest make room, if it was our own limit
            database.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?)", row)

    def _open(self) -> sqlite3.Connection:
        # For the owner's eyes: tracebacks are in it. SQLite gives its other files the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        database = sqlite3.connect(self._path, timeout=2.0, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = TRUNCATE")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA max_page_count = {SIZE_MAX_BYTES // PAGE_BYTES}")
            database.execute(_TABLE)
        except BaseException:
            database.close()
            raise
        return database

    def _say(self, reason: str) -> None:
        if reason != self._failed:
            self._failed = reason
            self.trouble(reason)


def _prune(database: sqlite3.Connection, keep: int) -> None:
    """Drop what is too old, and of the rest the oldest above a number."""
    oldest = (datetime.now(UTC) - KEPT_FOR).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    database.execute("DELETE FROM events WHERE at < ?", (oldest,))
    last = "SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?"
    database.execute(f"DELETE FROM events WHERE id <= ({last})", (keep,))  # noqa: S608 - two constants
