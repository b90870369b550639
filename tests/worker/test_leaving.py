"""A health path that says that the daemon is going to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from djsup_worker.leaving import announced

FAR_NS = time.monotonic_ns() + 3600 * 10**9


def site(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"the site"]


def status(path: str, health_path: str, until_ns: int = FAR_NS) -> str:
    said: list[str] = []
    list(
        announced(site, health_path, until_ns)({"PATH_INFO": path}, lambda line, _headers: said.append(line))
    )
    return said[0][:3]


def test_the_health_path_answers_503_and_all_else_is_the_sites() -> None:
    assert status("/healthz", "/healthz") == "503"
    assert status("/healthz/more", "/healthz") == "200"
    assert status("/", "/healthz") == "200"


def test_the_health_path_may_have_a_query_and_encoded_bytes() -> None:
    assert status("/is it", "/is%20it?deep=1") == "503"
    assert status("/\xc3\xa9", "/%C3%A9") == "503"


def test_it_has_an_end_for_the_daemon_may_have_been_killed_before_it_stopped() -> None:
    assert status("/healthz", "/healthz", time.monotonic_ns()) == "200"
