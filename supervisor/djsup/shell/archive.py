"""The archive: events, deploys and minute figures on disk (SQLite), so that they outlive the daemon.

Bounded in number, age and size. A thread of its own writes, from a bounded queue: a full or a slow disk loses rows of
the archive, which is said once, and never stops the supervision. What an event is, is ``history``'s affair, what a
minute, that of ``series``; here it is a number or a name, a time, and JSON or bytes.

Each question opens the file anew, and waits for the disk: to be asked in a thread.
"""

from __future__ import annotations

import json
import os
import queue
import sqlite3
import threading
import time
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
GATHER_S = 0.1
"""Events come in bursts, and to write one costs as much as to write ten. So long the last ones are in memory alone."""
GATHER_MAX = 100
PAGE_BYTES = 4096
MINUTES_KEPT_FOR_S = 31 * 24 * 3600
MINUTES_KEPT = 200_000
"""Of all sites together: two weeks of ten sites, 33 hours of a hundred; about 150 bytes each."""
DEPLOYS_KEPT = 5_000
_TABLES = (
    "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, at TEXT NOT NULL, entry TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS deploys (id INTEGER PRIMARY KEY, at TEXT NOT NULL, entry TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS minutes
    (at INTEGER NOT NULL, site TEXT NOT NULL, figures BLOB NOT NULL, PRIMARY KEY (site, at)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS minutes_at ON minutes (at)",
)
_EVENT = "INSERT OR REPLACE INTO events VALUES (?, ?, ?)"
_DEPLOY = "INSERT INTO deploys (at, entry) VALUES (?, ?)"
_MINUTE = "INSERT OR REPLACE INTO minutes VALUES (?, ?, ?)"

_Row = tuple[str, tuple[Any, ...]]
"""A statement and its values; an object becomes JSON when it is written."""


class Archive:
    """What happened in one runtime directory."""

    def __init__(self, path: Path) -> None:
        self.trouble: Callable[[str], object] = lambda _reason: None
        """Called in the archive's thread, once for each new reason, when it cannot write."""
        self._path = path
        self._queue: queue.Queue[_Row | None] = queue.Queue(QUEUE_EVENTS)
        self._failed = ""
        self._thread: threading.Thread | None = None

    def recall(self, limit: int) -> list[dict[str, Any]]:
        """The last events, oldest first; none when the file cannot be read. To be called before ``start``."""
        return self._recall("events", limit)

    def recall_deploys(self, limit: int) -> list[dict[str, Any]]:
        """As recall, the last deploys."""
        return self._recall("deploys", limit)

    def _recall(self, table: str, limit: int) -> list[dict[str, Any]]:
        try:
            with closing(self._open()) as database:
                rows = database.execute(
                    f"SELECT entry FROM {table} ORDER BY id DESC LIMIT ?",  # noqa: S608 - one of two
                    (limit,),
                ).fetchall()
                return [json.loads(entry) for (entry,) in reversed(rows)]
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):  # not a database any more: begin anew
                with suppress(OSError):
                    self._path.replace(self._path.with_suffix(".broken"))
            return []
        except (OSError, ValueError):
            return []

    def events_before(self, before: int, limit: int) -> list[dict[str, Any]]:
        """The last events of those with smaller numbers than ``before``, newest first; none that cannot be read."""
        question = "SELECT entry FROM events WHERE id < ? ORDER BY id DESC LIMIT ?"
        return [json.loads(entry) for (entry,) in self._ask(question, (before, limit))]

    def minutes(self, site: str, begin: int, end: int) -> list[tuple[int, bytes]]:
        """The minutes of a site that began in this time (s since the epoch), oldest first; none that cannot be read."""
        question = "SELECT at, figures FROM minutes WHERE site = ? AND at >= ? AND at < ? ORDER BY at"
        return [(int(at), bytes(figures)) for at, figures in self._ask(question, (site, begin, end))]

    def _ask(self, question: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            with closing(self._open()) as database:
                return database.execute(question, values).fetchall()
        except (sqlite3.Error, OSError):
            return []  # the writer says why

    def start(self) -> None:
        """Begin to write, or go on after ``close``. A thread that is stuck ends when it gets free, or this one does."""
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()

    def add(self, number: int, at: str, entry: dict[str, Any]) -> None:
        """Keep an event; never waits. Times are ISO 8601 in UTC."""
        self._put(_EVENT, number, at, entry)

    def add_deploy(self, at: str, entry: dict[str, Any]) -> None:
        """Keep a deploy that is over; never waits."""
        self._put(_DEPLOY, at, entry)

    def add_minute(self, site: str, at: int, figures: bytes) -> None:
        """Keep a minute of a site that began at ``at`` (s since the epoch); never waits."""
        self._put(_MINUTE, at, site, figures)

    def _put(self, statement: str, *values: Any) -> None:
        with suppress(queue.Full):
            self._queue.put_nowait((statement, values))

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, at most for the time given."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        unpruned = PRUNE_EVERY
        goes_on = True
        while goes_on:
            rows, goes_on = self._gather()
            if not rows:
                continue
            try:
                with closing(self._open()) as database:
                    self._write_all(database, rows)
                    unpruned += len(rows)
                    if unpruned > PRUNE_EVERY:
                        _prune(database)
                        unpruned = 0
                    self._failed = ""
            except (sqlite3.Error, OSError) as error:
                self._say(f"cannot write the events to {self._path}: {error}")

    def _gather(self) -> tuple[list[_Row], bool]:
        """Rows as soon as there are some, with what follows them within GATHER_S; whether there will be more."""
        rows: list[_Row] = []
        until = None
        while len(rows) < GATHER_MAX:
            try:
                row = self._queue.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if row is None:
                return rows, False
            rows.append(row)
            until = until or time.monotonic() + GATHER_S
        return rows, True

    def _write_all(self, database: sqlite3.Connection, rows: list[_Row]) -> None:
        """Write rows at one go, or, where that fails, one by one: what is written then is kept."""
        try:
            database.execute("BEGIN IMMEDIATE")
            for row in rows:
                database.execute(*_bound(row))
            database.execute("COMMIT")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            self._write_each(database, rows)

    def _write_each(self, database: sqlite3.Connection, rows: list[_Row]) -> None:
        """Write each row by itself. One that cannot be written takes no other with it; the last error is raised then."""
        failed: sqlite3.Error | None = None
        for row in rows:
            try:
                self._write(database, row)
            except sqlite3.Error as error:
                failed = error
                database.execute("PRAGMA busy_timeout = 0")  # who has locked it was waited for
        if failed is not None:
            raise failed

    @staticmethod
    def _write(database: sqlite3.Connection, item: _Row) -> None:
        statement, row = _bound(item)
        try:
            database.execute(statement, row)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            _prune(database, 4)  # the oldest make room, if it was our own limit
            database.execute(statement, row)

    def _open(self) -> sqlite3.Connection:
        # For the owner's eyes: tracebacks are in it. SQLite gives its other files the same mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        database = sqlite3.connect(self._path, timeout=2.0, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = TRUNCATE")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(f"PRAGMA max_page_count = {SIZE_MAX_BYTES // PAGE_BYTES}")
            for table in _TABLES:
                database.execute(table)
        except BaseException:
            database.close()
            raise
        return database

    def _say(self, reason: str) -> None:
        if reason != self._failed:
            self._failed = reason
            self.trouble(reason)


def _bound(row: _Row) -> _Row:
    """A statement and its values as SQLite takes them."""
    statement, values = row
    return statement, tuple(json.dumps(each) if isinstance(each, dict) else each for each in values)


def _prune(database: sqlite3.Connection, part: int = 1) -> None:
    """Drop what is too old, and of the rest the oldest above a number, or above a part of it (4: a quarter)."""
    now = datetime.now(UTC)
    oldest = (now - KEPT_FOR).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for table, kept in (("events", KEPT), ("deploys", DEPLOYS_KEPT)):
        database.execute(f"DELETE FROM {table} WHERE at < ?", (oldest,))  # noqa: S608 - one of two
        last = f"SELECT id FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?"  # noqa: S608 - as above
        database.execute(f"DELETE FROM {table} WHERE id <= ({last})", (kept // part,))  # noqa: S608 - as above
    database.execute("DELETE FROM minutes WHERE at < ?", (now.timestamp() - MINUTES_KEPT_FOR_S,))
    last = "SELECT at FROM minutes ORDER BY at DESC LIMIT 1 OFFSET ?"
    database.execute(f"DELETE FROM minutes WHERE at <= ({last})", (MINUTES_KEPT // part,))  # noqa: S608 - a constant
