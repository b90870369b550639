"""The least that a WSGI application can do, so that what is measured is the server."""

from collections.abc import Callable
from typing import Any

BODY = b"Hello, world!\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer every request with the same short text."""
    start_response("200 OK", HEADERS)
    return [BODY]
