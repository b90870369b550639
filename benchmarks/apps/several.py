"""The bare function, and a page of 4 MiB: what the attacks ask for. Reads what is sent to it."""

from collections.abc import Callable
from typing import Any

BIG = b"x" * (64 * 1024)
BLOCKS = 64


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Answer ``/big`` with 4 MiB, block by block, and all else with a short text."""
    body = environ["wsgi.input"]
    while body.read(64 * 1024):
        pass
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/big":
        return (BIG for _ in range(BLOCKS))
    return [b"Hello, world!\n"]
