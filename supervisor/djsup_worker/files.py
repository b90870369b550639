"""``wsgi.file_wrapper``: a file as a response body, sent by the kernel where it can be."""

from __future__ import annotations

import os
import stat
from typing import Any, Iterator, Optional, Tuple

BLOCK_BYTES = 64 * 1024


class FileWrapper:
    """An iterable over a file-like object, as PEP 3333 wants it.

    ``Response`` sends a regular file that it recognises in here with ``sendfile(2)``.
    """

    def __init__(self, filelike: Any, blksize: int = BLOCK_BYTES) -> None:
        self.filelike = filelike
        self.blksize = max(blksize, BLOCK_BYTES)
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration

    def regular_file(self) -> Optional[Tuple[int, int, int]]:
        """Descriptor, position and bytes from there to the end; None when it is no regular file.

        The position is the object's own, not the descriptor's: it may have read ahead.
        """
        try:
            fd = self.filelike.fileno()
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            position = self.filelike.tell()
        except (AttributeError, OSError, ValueError):
            return None
        if not isinstance(fd, int) or not isinstance(position, int):
            return None
        return fd, position, max(0, status.st_size - position)
