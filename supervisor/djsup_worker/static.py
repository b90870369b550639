"""Static and media files, answered before the site's application is called.

Knows how a file is sent; which file a path means is ``folder``'s part, what the client asks of it,
``conditions``'. A path that means no file is the application's, which answers 404 as it likes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional

from djsup_worker.conditions import (
    NOT_MODIFIED,
    PRECONDITION_FAILED,
    UNSATISFIABLE,
    judge,
    part,
)  # fmt: skip
from djsup_worker.files import FileWrapper
from djsup_worker.folder import Folder
from djsup_worker.wsgi import JOIN_BYTES

if TYPE_CHECKING:
    from djsup_worker.application import Application
    from djsup_worker.folder import Opened

    StartResponse = Callable[..., Any]

EMPTY = [b""]


def in_front_of(application: Application, site: str, folders: Dict[str, Any]) -> Application:
    """The application with these folders in front of it, as Boot's ``static`` names them.

    Raises:
        SiteError: a folder is missing.
    """
    # The longest prefix first: it means the most.
    found = [
        Folder(site, prefix, folders[prefix]["path"], changes=folders[prefix]["changes"])
        for prefix in sorted(folders, key=len, reverse=True)
    ]
    prefixes = tuple(folder.prefix for folder in found)

    def serve(environ: Dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        # All that a request for no file pays.
        if environ["PATH_INFO"].startswith(prefixes):
            answer = answer_with_file(found, environ, start_response)
            if answer is not None:
                return answer
        return application(environ, start_response)

    return serve


def answer_with_file(
    folders: List[Folder], environ: Dict[str, Any], start_response: StartResponse
) -> Optional[Iterable[bytes]]:
    """The answer to a request whose path means a file; None: it means none.

    Raises:
        OSError: the file is there and cannot be read.
    """
    path = environ["PATH_INFO"]
    for folder in folders:
        if path.startswith(folder.prefix):
            opened = folder.open(path, environ.get("HTTP_ACCEPT_ENCODING", ""))
            if opened is not None:
                return _answer(opened, environ, start_response)
    return None


def _answer(opened: Opened, environ: Dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer with what is open; closes it, now or when it is sent."""
    kept = False
    try:
        form = opened.representation
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return EMPTY
        verdict = judge(environ, form.etag, form.last_modified, form.modified_s)
        if verdict == NOT_MODIFIED:
            start_response("304 Not Modified", form.kept_headers)
            return EMPTY
        if verdict == PRECONDITION_FAILED:
            start_response("412 Precondition Failed", [])
            return EMPTY
        begin, count = 0, form.size
        headers = form.headers.copy()
        status = "200 OK"
        # RFC 9110, 14.2: only GET has parts.
        wanted = part(environ, form.size, form.etag, form.last_modified) if method == "GET" else None
        if wanted is not None:
            if wanted == UNSATISFIABLE:
                start_response("416 Range Not Satisfiable", [("Content-Range", "bytes */%d" % form.size)])
                return EMPTY
            begin, count = wanted
            status = "206 Partial Content"
            headers.append(("Content-Range", "bytes %d-%d/%d" % (begin, begin + count - 1, form.size)))
        headers.append(("Content-Length", str(count)))
        if count > JOIN_BYTES and method == "GET":
            start_response(status, headers)
            kept = True
            return FileWrapper(Slice(opened.fd, begin, begin + count))
        # What is shorter goes out in one packet with its head. Should the file have become shorter this very
        # moment, less is sent than promised, and the connection is closed, as with a long one.
        data = os.pread(opened.fd, count, begin) if method == "GET" else b""
        start_response(status, headers)
        return [data]
    finally:
        if not kept:
            os.close(opened.fd)


class Slice:
    """Part of an open file, as a file-like object for ``FileWrapper``."""

    __slots__ = ("_end", "_fd", "_position")

    def __init__(self, fd: int, begin: int, end: int) -> None:
        self._fd = fd
        self._position = begin
        self._end = end

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def tell(self) -> int:
        """The next byte to be read."""
        return self._position

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        data = os.pread(self._fd, min(size, self._end - self._position), self._position)
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close the descriptor, once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
