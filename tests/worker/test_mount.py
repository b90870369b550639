"""SCRIPT_NAME and PATH_INFO of a site below a path prefix (PEP 3333)."""

from __future__ import annotations

from typing import Any

import pytest

from djsup_worker.mount import under


@pytest.mark.parametrize(
    ("path", "info"),
    [
        ("/shop", ""),
        ("/shop/", "/"),
        ("/shop/a/b", "/a/b"),
        ("/shopping", "/shopping"),
        ("/healthz", "/healthz"),
    ],
)
def test_the_application_gets_the_prefix_apart_from_the_rest(path: str, info: str) -> None:
    seen: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], _start: Any) -> list[bytes]:
        seen.append(environ)
        return []

    under(application, "/shop")({"SCRIPT_NAME": "", "PATH_INFO": path}, lambda *_: None)
    assert (seen[0]["SCRIPT_NAME"], seen[0]["PATH_INFO"]) == ("/shop", info)
