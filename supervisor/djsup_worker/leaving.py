"""The health path of a worker whose daemon is going to stop: it says so, while everything else is served.

A load balancer that asks it sends its next requests elsewhere, before a connection is refused or lost.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable
from urllib.parse import unquote

if TYPE_CHECKING:
    from djsup_worker.application import Application


def announced(application: Application, health_path: str, until_ns: int) -> Application:
    """The application, whose health path answers 503 until a reading of the monotonic clock.

    It has an end, for a daemon that was killed before it stopped is followed by one that wants the worker well.
    """
    path = unquote(health_path.partition("?")[0], encoding="latin-1")  # as PATH_INFO is (PEP 3333)

    def answer(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != path or time.monotonic_ns() >= until_ns:
            return application(environ, start_response)
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]
        start_response("503 Service Unavailable", headers)
        return [b"djsup is going to stop.\n"]

    return answer
