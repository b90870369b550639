"""The body of a request while it arrives: kept in memory, or in a temporary file above SPOOL_BYTES.

Framing is decided here byte by byte (RFC 9112, 6.3 and 7.1): a body ends exactly where it says, so that
what follows is the next request and nothing else. Knows nothing of sockets.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import tempfile
import threading
from typing import IO, Callable, List, Optional, Tuple, Union

from djsup_worker.refusal import Refused

READ_BYTES = 256 * 1024
"""The most of a body that is read in one turn."""
CHUNKED_READ_BYTES = 64 * 1024
CHUNKED_READ_MIN_BYTES = 1024
LINES_A_TURN = 256
"""Chunks that one turn may well take; where they are so small that it takes more, less is read the next time."""
SPOOL_BYTES = 1024 * 1024
"""A longer body goes to a temporary file."""
SPOOL_EARLY_BYTES = 64 * 1024
"""A body that is going to be longer does so when this much of it is there."""
ROOM_BYTES = 64 * 1024 * 1024
"""What all bodies in memory may take together; beyond it they go to temporary files, however short they are."""
PIECES_MAX = 1024
"""Pieces of a body in memory that are kept apart; each costs some 50 bytes besides what is in it."""
CHUNK_LINE_MAX_BYTES = 1024
"""The longest line that begins a chunk, its extensions included."""
EXTENSIONS_MAX_BYTES = 16 * 1024
"""What all chunk extensions of one body may take (CVE-2023-39326 and its kin)."""
TRAILERS_MAX_BYTES = 8 * 1024
CR = 0x0D

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
CHUNK_LINE = re.compile(
    # RFC 9112, 7.1 and 7.1.1. White space only around an extension's marks, never before the line's end.
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:[ \t]*;[ \t]*"
    + _TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + _TOKEN
    + rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)*'
)
TRAILER = re.compile(rb"(" + _TOKEN + rb"):[\t -~\x80-\xff]*")
TRAILERS_FORBIDDEN = frozenset(
    # RFC 9110, 6.5.1: framing, routing, request modifiers, authentication, content format.
    (
        b"authorization", b"cache-control", b"connection", b"content-encoding", b"content-length",
        b"content-range", b"content-type", b"cookie", b"expect", b"forwarded", b"host", b"if-match",
        b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"keep-alive",
        b"max-forwards", b"pragma", b"proxy-authorization", b"proxy-connection", b"range", b"set-cookie",
        b"te", b"trailer", b"transfer-encoding", b"upgrade", b"x-forwarded-for", b"x-forwarded-host",
        b"x-forwarded-proto", b"x-real-ip",
    )
)  # fmt: skip
CLOSE_APART_BYTES = 32 * 1024 * 1024
"""The kernel gives a longer file's blocks back in a thread of its own: a gigabyte takes it a tenth of a second."""


class Room:
    """What bodies on their way take of a worker: memory, and descriptors of temporary files."""

    __slots__ = ("files", "held_bytes", "may_open")

    def __init__(self, may_open: Callable[[], bool] = lambda: True) -> None:
        self.held_bytes = 0
        self.files = 0
        self.may_open = may_open
        """Whether there is a descriptor left for another file."""


class Spool:
    """Bytes on their way to ``wsgi.input``."""

    __slots__ = ("_file", "_most", "_pieces", "_room", "size")

    def __init__(self, room: Optional[Room] = None, expected: int = 0) -> None:
        self.size = 0
        # Joined at the end: a BytesIO that grows costs four times as much, in bytes moved and pages fetched.
        self._pieces: List[Union[bytes, memoryview]] = []
        self._file: Optional[IO[bytes]] = None
        self._room = room or Room()
        self._most = SPOOL_BYTES if expected <= SPOOL_BYTES else SPOOL_EARLY_BYTES

    @property
    def spooled(self) -> bool:
        """Whether they are in a temporary file."""
        return self._file is not None

    def write(self, data: Union[bytes, memoryview]) -> None:
        """Take more bytes.

        Raises:
            OSError: the temporary file cannot be written.
        """
        count = len(data)
        room = self._room
        if self._file is None and (self.size + count > self._most or room.held_bytes + count > ROOM_BYTES):
            self._go_to_file()
        if self._file is not None:
            self._file.write(data)
        else:
            room.held_bytes += count
            self._pieces.append(data)
            if len(self._pieces) >= PIECES_MAX:
                self._pieces = [b"".join(self._pieces)]
        self.size += count

    def _go_to_file(self) -> None:
        room = self._room
        if not room.may_open():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._file = tempfile.TemporaryFile(prefix="djsup-body-")  # noqa: SIM115  # closed with the request
        room.files += 1
        room.held_bytes -= self.size
        pieces, self._pieces = self._pieces, []
        self._file.writelines(pieces)

    def finish(self) -> IO[bytes]:
        """The file, to be read from its beginning.

        Raises:
            OSError: the temporary file cannot be written.
        """
        if self._file is None:
            return io.BytesIO(b"".join(self._pieces))
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Throw the bytes away; once."""
        if self._file is None:
            self._room.held_bytes -= self.size
            self._pieces = []
            return
        self._room.files -= 1
        if self.size > CLOSE_APART_BYTES:
            with contextlib.suppress(RuntimeError):  # no thread to be had
                threading.Thread(target=_close, args=(self._file,), name="djsup-close", daemon=True).start()
                return
        _close(self._file)


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a full disk: what is still buffered cannot be written either
        file.close()


class SizedBody:
    """A body of Content-Length bytes."""

    __slots__ = ("left", "spool")

    appetite = READ_BYTES
    """How much is to be read at a time."""

    def __init__(self, length: int, room: Optional[Room] = None) -> None:
        self.left = length
        self.spool = Spool(room, length)

    def feed(self, data: bytes) -> Optional[bytes]:
        """Take bytes; None while more are to come, else what follows the body."""
        if len(data) < self.left:
            self.spool.write(data)
            self.left -= len(data)
            return None
        here, rest = data[: self.left], data[self.left :]
        self.spool.write(here)
        self.left = 0
        return rest


class ChunkedBody:
    """A body in chunks, at most ``most`` bytes of it.

    Data is taken whole chunk lines at a time; what is not yet a line waits in ``_kept``.
    """

    __slots__ = (
        "_chunk_left",
        "_extensions",
        "_in_trailers",
        "_kept",
        "_lines",
        "_most",
        "_needs_line_end",
        "_trailers",
        "appetite",
        "spool",
    )

    def __init__(self, most: int, room: Optional[Room] = None) -> None:
        self.spool = Spool(room)
        self.appetite = CHUNKED_READ_BYTES // 8
        """How much is to be read at a time."""
        self._lines = 0
        self._most = most
        self._kept = b""
        self._chunk_left = 0
        self._needs_line_end = False
        self._in_trailers = False
        self._extensions = 0
        self._trailers = 0

    def feed(self, data: bytes) -> Optional[bytes]:
        """Take bytes; None while more are to come, else what follows the body.

        Raises:
            Refused: malformed chunks, a forbidden trailer, or more than is allowed.
        """
        self._lines = 0
        rest = self._take(data)
        wanted = self.appetite * LINES_A_TURN // max(self._lines, LINES_A_TURN // 2)
        self.appetite = max(CHUNKED_READ_MIN_BYTES, min(CHUNKED_READ_BYTES, wanted))
        return rest

    def _take(self, data: bytes) -> Optional[bytes]:
        if self._kept:
            data = self._kept + data
            self._kept = b""
        at = 0
        while True:
            if self._chunk_left:
                piece = data[at : at + self._chunk_left]
                if not piece:
                    return None
                self.spool.write(piece)
                at += len(piece)
                self._chunk_left -= len(piece)
                if self._chunk_left:
                    return None
                self._needs_line_end = True
            if self._needs_line_end:
                here = data[at : at + 2]
                if here != b"\r\n":
                    if b"\r\n".startswith(here):
                        self._kept = here
                        return None
                    raise Refused(400, "a chunk is longer than it says")
                at += 2
                self._needs_line_end = False
            line, at = self._line(data, at)
            if line is None:
                return None
            self._lines += 1
            if not self._in_trailers:
                self._begin_chunk(line)
            elif line:
                self._trailer(line)
            else:
                return data[at:]

    def _line(self, data: bytes, at: int) -> Tuple[Optional[bytes], int]:
        """The next line and where the data after it begins; None: it is not whole yet, and kept."""
        most = TRAILERS_MAX_BYTES if self._in_trailers else CHUNK_LINE_MAX_BYTES
        end = data.find(b"\n", at, at + most + 2)
        if end < 0:
            if len(data) - at > most + 1:  # the line's end may be half there
                raise Refused(400, "a line of a chunked body is too long")
            self._kept = data[at:]
            return None, at
        if end == at or data[end - 1] != CR:
            raise Refused(400, "a bare line feed in a chunked body")
        return data[at : end - 1], end + 1

    def _begin_chunk(self, line: bytes) -> None:
        found = CHUNK_LINE.fullmatch(line)
        if not found:
            raise Refused(400, "malformed chunk size")
        digits = found.group(1)
        self._extensions += len(line) - len(digits)
        if self._extensions > EXTENSIONS_MAX_BYTES:
            raise Refused(400, "too many chunk extensions")
        size = int(digits, 16)
        if self.spool.size + size > self._most:
            raise Refused(413, "the body is longer than %d bytes" % self._most)
        self._chunk_left = size
        self._in_trailers = size == 0

    def _trailer(self, line: bytes) -> None:
        """Check a trailer field and drop it: none ever becomes a header."""
        self._trailers += len(line)
        if self._trailers > TRAILERS_MAX_BYTES:
            raise Refused(431, "trailers of more than %d bytes" % TRAILERS_MAX_BYTES)
        found = TRAILER.fullmatch(line)
        if not found:
            raise Refused(400, "malformed trailer")
        if found.group(1).lower() in TRAILERS_FORBIDDEN:
            raise Refused(400, "a trailer that only a header may be")


Body = Union[SizedBody, ChunkedBody]
