"""The least that a WSGI application can do, so that what is measured is the server.

``/`` answers a line, ``/10k`` and ``/1m`` larger bodies, ``/upload`` reads what was sent and answers its length.
"""

from collections.abc import Callable
from typing import Any

Answer = tuple[list[tuple[str, str]], list[bytes]]

PIECE_BYTES = 64 * 1024


def _answer(body: bytes) -> Answer:
    return [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))], [body]


ANSWERS = {
    "/": _answer(b"Hello, world!\n"),
    "/10k": _answer(b"0123456789abcde\n" * 640),
    "/1m": _answer(b"0123456789abcde\n" * 65536),
}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer from what was made beforehand, or read an upload."""
    path = environ["PATH_INFO"]
    headers, body = _upload(environ) if path == "/upload" else ANSWERS[path]
    start_response("200 OK", headers)
    return body


def _upload(environ: dict[str, Any]) -> Answer:
    """Read the body as an application reads a file that it stores."""
    read = environ["wsgi.input"].read
    length = 0
    while piece := read(PIECE_BYTES):
        length += len(piece)
    return _answer(b"%d\n" % length)
