"""Logs: what the sites print, what the daemon says, and where both go.

A line of a site is labelled with site, slot and pid, kept for ``djsup logs``, and written to the site's
file or to standard error. Writing is done by a thread of its own with a bounded queue: a full disk, a
terminal that is held with Ctrl-S or a slow pipe loses log lines, and never stops the supervision.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import structlog

# What is handed over is decoded, and needs the types for it.
from djsup.core.model import Pid, SiteName  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import TextIOWrapper

    from djsup.core.model import LogSettings

Stream = Literal["stdout", "stderr"]

LINE_MAX_BYTES = 8 * 1024
"""A longer line is cut in pieces of this length."""
STDERR_LINES = 50
"""Lines of standard error that are kept of each process, to say why it died."""
SITE_LINES = 2000
"""Lines kept of each site for ``djsup logs``."""
QUEUE_LINES = 10_000
"""Lines that wait for the disk; more are dropped and counted."""
FILE_MAX_BYTES = 50 * 1024 * 1024
FILES_KEPT = 5
FILE_MODE = 0o640
"""As that of the access logs."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that a site's process printed."""

    at: datetime
    site: SiteName
    slot: int | None
    pid: Pid | None
    stream: Stream
    text: str
    program: str | None = None
    """``NAME/INSTANCE`` of a program of the site; None: a worker or a template."""

    def to_json(self) -> dict[str, object]:
        """As the control socket and the JSON log show it."""
        return {
            "at": stamp(self.at),
            "site": self.site,
            "slot": self.slot,
            "program": self.program,
            "pid": self.pid,
            "stream": self.stream,
            "text": self.text,
        }


def stamp(at: datetime) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Writer:
    """Writes text lines to files and to standard error, in a thread of its own."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[str | None, str] | None] = queue.Queue(QUEUE_LINES)
        self._files: dict[str, RotatingFileHandler] = {}
        self._reopen = threading.Event()
        self._failed: dict[str | None, str] = {}
        """Why the last line could not be written, by file."""
        self.dropped = 0
        self.trouble: Callable[[str], object] = lambda _text: None
        """Called in the writer's thread, once for each new reason, when a line cannot be written."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, text: str, file: str | None = None) -> None:
        """Queue a line for a file, or for standard error when there is none."""
        try:
            self._queue.put_nowait((file, text))
        except queue.Full:
            self.dropped += 1

    def reopen(self) -> None:
        """Open the files again by their names before the next line (after logrotate has moved them)."""
        self._reopen.set()

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued, at most for the time given."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(timeout_s)

    def resume(self) -> None:
        """Write again after ``close``. A thread that is stuck at a line ends when it gets free, or this one does."""
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._reopen.is_set():
                self._reopen.clear()
                self._close_files()
            try:
                self._write_now(*item)
            except (OSError, ValueError) as error:
                self._say(item[0], f"cannot write the log {item[0] or 'to standard error'}: {error}")
            else:
                self._failed.pop(item[0], None)
        self._close_files()

    def _close_files(self) -> None:
        for handler in self._files.values():
            handler.close()
        self._files.clear()

    def _say(self, file: str | None, reason: str) -> None:
        if reason != self._failed.get(file):
            self._failed[file] = reason
            self.trouble(reason)

    def _write_now(self, file: str | None, text: str) -> None:
        if file is None:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
            return
        if file not in self._files:
            self._files[file] = LogFile(
                file, maxBytes=FILE_MAX_BYTES, backupCount=FILES_KEPT, encoding="utf-8", delay=True
            )
        handler = self._files[file]
        stream: TextIO | None = handler.stream
        if stream is None:
            stream = handler.stream = handler._open()  # noqa: SLF001 - the only way to have its errors
        stream.write(text + "\n")
        stream.flush()
        if stream.tell() > FILE_MAX_BYTES:
            handler.doRollover()


class LogFile(RotatingFileHandler):
    """A log in a folder: made so that the user of one site cannot read what another has printed."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, opener=_open_private)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, FILE_MODE)


class Logs:
    """Everything that is printed or said, labelled, kept and written."""

    def __init__(self, settings: LogSettings, writer: Writer) -> None:
        self.settings = settings
        self.writer = writer
        self._kept: dict[SiteName, deque[Line]] = {}
        self._followers: set[asyncio.Queue[Line]] = set()
        colours = settings.directory is None and sys.stderr.isatty()
        self._console = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0)
        self._colours = colours

    def say(self, text: str, level: str = "info", details: str = "", **fields: object) -> None:
        """One line of the daemon's own, and below it the details, if any."""
        event: dict[str, object] = {
            "timestamp": stamp(datetime.now(UTC)),
            "level": level,
            "event": text,
            **{name: value for name, value in fields.items() if value not in (None, "")},
        }
        if self.settings.format == "json":
            if details:
                event["details"] = details
            rendered = json.dumps(event, ensure_ascii=False)
        else:
            rendered = str(self._console(None, level, event))
            if details:
                rendered += "\n" + "\n".join(f"    {line}" for line in details.splitlines())
        self.writer.write(rendered, self._file("djsup"))

    def add(self, line: Line) -> None:
        """A line that a site's process has printed."""
        kept = self._kept.setdefault(line.site, deque(maxlen=SITE_LINES))
        kept.append(line)
        for follower in self._followers:
            with suppress(asyncio.QueueFull):
                follower.put_nowait(line)
        if self.settings.format == "json":
            rendered = json.dumps(line.to_json(), ensure_ascii=False)
        else:
            who = line.program or ("template" if line.slot is None else str(line.slot))
            label = f"{line.site} {who} [{line.pid or '?'}]"
            if self._colours:
                label = f"\033[36m{label}\033[0m"
            rendered = f"{stamp(line.at)} {label} {line.text}"
        self.writer.write(rendered, self._file(line.site))

    def _file(self, name: str) -> str | None:
        directory = self.settings.directory
        return None if directory is None else str(Path(directory) / f"{name}.log")

    def kept(self, site: SiteName | None, limit: int) -> list[Line]:
        """The last lines of one site, or of all, oldest first."""
        if site is not None:
            lines = list(self._kept.get(site, ()))
        else:
            lines = sorted((line for kept in self._kept.values() for line in kept), key=lambda line: line.at)
        return lines[-limit:] if limit > 0 else []

    def recall(self, lines: Iterable[Line]) -> None:
        """Begin with the lines that another program of the daemon has kept."""
        for line in lines:
            self._kept.setdefault(line.site, deque(maxlen=SITE_LINES)).append(line)

    def follow(self) -> asyncio.Queue[Line]:
        """A queue that gets every line from now on; give it back with ``unfollow``."""
        follower: asyncio.Queue[Line] = asyncio.Queue(QUEUE_LINES)
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: asyncio.Queue[Line]) -> None:
        """Stop filling a queue that ``follow`` gave."""
        self._followers.discard(follower)

    def forget(self, site: SiteName) -> None:
        """Drop the lines kept of a site."""
        self._kept.pop(site, None)


@dataclass(frozen=True, slots=True)
class Held:
    """One capture in another program's hands: its pipes, what is half read, and what it keeps."""

    program: str | None
    keep_all: bool
    stdout: int | None
    """The descriptor that is read; None: it has ended."""
    stderr: int | None
    rest_stdout: str
    """The bytes of a line that has not ended, each as the character of its number."""
    rest_stderr: str
    last_stderr: tuple[str, ...]


class Capture:
    """Reads what one process prints, line by line, and keeps the last of its standard error."""

    def __init__(
        self,
        logs: Logs,
        site: SiteName,
        slot: int | None,
        program: str | None = None,
        *,
        keep_all: bool = False,
    ) -> None:
        """With ``keep_all`` the last lines of standard output are kept as those of standard error are."""
        self.pid: Pid | None = None
        self.last_stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self.listeners: list[Callable[[str], None]] = []
        """Hear each line of its standard error, too."""
        self._logs = logs
        self._site = site
        self._slot = slot
        self.program = program
        self._keep_all = keep_all
        self._rest: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        self._ends: dict[Stream, int] = {}

    def open(self) -> tuple[int, int]:
        """Two new pipes: the ends to write to (standard output, standard error); the caller closes them.

        Raises:
            OSError: there is no descriptor left; none of them is open then.
        """
        ends: list[int] = []
        for stream in self._streams():
            try:
                reader, writer = os.pipe()
            except OSError:
                for end in ends:
                    os.close(end)
                for open_one in list(self._ends):
                    self.close(open_one)
                raise
            os.set_blocking(reader, False)
            self._ends[stream] = reader
            asyncio.get_running_loop().add_reader(reader, self.read, stream)
            ends.append(writer)
        return ends[0], ends[1]

    def held(self) -> Held:
        """What another program of the daemon needs to read on."""
        rest = {stream: data.decode("latin-1") for stream, data in self._rest.items()}
        return Held(
            self.program,
            self._keep_all,
            self._ends.get("stdout"),
            self._ends.get("stderr"),
            rest["stdout"],
            rest["stderr"],
            tuple(self.last_stderr),
        )

    @staticmethod
    def resume(logs: Logs, site: SiteName, slot: int | None, pid: Pid, held: Held) -> Capture:
        """Read on where another program of the daemon has stopped."""
        capture = Capture(logs, site, slot, held.program, keep_all=held.keep_all)
        capture.pid = pid
        capture.last_stderr.extend(held.last_stderr)
        capture._rest = {
            "stdout": held.rest_stdout.encode("latin-1", "replace"),
            "stderr": held.rest_stderr.encode("latin-1", "replace"),
        }
        ends: tuple[tuple[Stream, int | None], ...] = (("stdout", held.stdout), ("stderr", held.stderr))
        for stream, end in ends:
            if end is not None:
                capture._ends[stream] = end
                asyncio.get_running_loop().add_reader(end, capture.read, stream)
        return capture

    def readers(self) -> tuple[int, ...]:
        """The ends that are read from here."""
        return tuple(self._ends[stream] for stream in self._streams())

    def ends(self) -> dict[str, int]:
        """Those of them that have not come to their own end, by stream."""
        return {stream: self._ends[stream] for stream in self._streams() if stream in self._ends}

    def recall(self, stream: Stream, data: bytes, lost_bytes: int = 0) -> None:
        """What somebody else has read in our place comes first, but for as many bytes before it."""
        if lost_bytes:
            text = f"djsup: {lost_bytes} bytes of {stream} before this were too many to keep"
            self._line(stream, text.encode())
        self._take(stream, data)

    @staticmethod
    def _streams() -> Iterator[Stream]:
        yield "stdout"
        yield "stderr"

    def read(self, stream: Stream) -> None:
        """Read what is there now, at most one bite, and close at its end."""
        end = self._ends.get(stream)
        if end is None:
            return
        try:
            data = os.read(end, 256 * 1024)
        except BlockingIOError:
            return
        if data:
            self._take(stream, data)
        else:
            self.close(stream)

    def finish(self) -> None:
        """The process is gone: read what it left; its own children may still print afterwards."""
        for stream in self._streams():
            self.read(stream)
            if rest := self._rest[stream]:
                self._rest[stream] = b""
                self._line(stream, rest)

    def _take(self, stream: Stream, data: bytes) -> None:
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        while len(rest) > LINE_MAX_BYTES:
            lines.append(rest[:LINE_MAX_BYTES])
            rest = rest[LINE_MAX_BYTES:]
        self._rest[stream] = rest
        for line in lines:
            for start in range(0, len(line) or 1, LINE_MAX_BYTES):
                self._line(stream, line[start : start + LINE_MAX_BYTES])

    def _line(self, stream: Stream, raw: bytes) -> None:
        text = raw.decode("utf-8", "backslashreplace").rstrip("\r")
        text = "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in text)
        if stream == "stderr" or self._keep_all:
            self.last_stderr.append(text)
            for listener in self.listeners:
                listener(text)
        at = datetime.now(UTC)
        self._logs.add(Line(at, self._site, self._slot, self.pid, stream, text, self.program))

    def close(self, stream: Stream) -> None:
        """Read no more of a stream."""
        end = self._ends.pop(stream)
        asyncio.get_running_loop().remove_reader(end)
        os.close(end)
        if rest := self._rest[stream]:
            self._rest[stream] = b""
            self._line(stream, rest)
