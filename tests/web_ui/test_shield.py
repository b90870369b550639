from __future__ import annotations

import pytest

from djsup_web.hosts import HostRule, split_host
from web_ui.world import BEARER, CHANGE, World, scene


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("localhost:9000", ("localhost", 9000)),
        ("LOCALHOST", ("localhost", 80)),
        ("[::1]:9000", ("::1", 9000)),
        ("[::1]", ("::1", 80)),
        ("", None),
        (":9000", None),
        ("[::1", None),
        ("[::1]9000", None),
        ("a:b", None),
        ("a:1:2", None),
        ("a:999999", None),
    ],
)
def test_host_header_is_split(header: str, parts: tuple[str, int] | None) -> None:
    assert split_host(header) == parts


def test_dashboard_on_all_addresses_takes_addresses_but_no_foreign_names() -> None:
    rule = HostRule(frozenset({"localhost"}), 9000, any_address=True)
    assert rule.allows("192.0.2.7:9000")
    assert rule.allows("[2001:db8::7]:9000")
    assert rule.allows("localhost:9000")
    assert not rule.allows("evil.example:9000")
    assert not rule.allows("192.0.2.7:9001")


@scene
async def test_only_our_own_host_names_are_answered(here: World) -> None:
    port = here.port
    for ours in (f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}"):
        assert (await here.get("/api/status", Host=ours))[0] == 200, ours
    for theirs in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        f"127.0.0.1.evil.example:{port}",
    ):
        for path in ("/", "/login", "/healthz", "/api/status", "/static/base.css"):
            async with here.http.get(here.url + path, headers={**BEARER, "Host": theirs}) as answer:
                assert answer.status == 421, (theirs, path)


@scene
async def test_change_needs_the_header_that_a_form_cannot_send(here: World) -> None:
    cookie = {"Cookie": await here.log_in()}
    for credentials in (BEARER, cookie):
        for headers in ({}, {"X-Djsup": "0"}):
            async with here.http.post(
                f"{here.url}/api/sites/blog/reload", headers={**credentials, **headers}
            ) as answer:
                assert answer.status == 403
    assert here.daemon.calls == []


@scene
async def test_change_asked_for_by_another_site_is_refused(here: World) -> None:
    theirs: tuple[dict[str, str], ...] = (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{here.port + 1}"},
    )
    for headers in theirs:
        for path, change in (("/api/sites/blog/reload", CHANGE), ("/login", {})):
            async with here.http.post(here.url + path, headers={**BEARER, **change, **headers}) as answer:
                assert answer.status == 403, headers
    assert here.daemon.calls == []


@scene
async def test_change_asked_for_by_our_own_page_is_done(here: World) -> None:
    ours: tuple[dict[str, str], ...] = ({"Sec-Fetch-Site": "same-origin"}, {"Origin": here.url}, {})
    for headers in ours:
        async with here.http.post(
            f"{here.url}/api/sites/blog/reload", headers={**BEARER, **CHANGE, **headers}
        ) as answer:
            assert answer.status == 200, headers


@scene
async def test_reading_verbs_change_nothing(here: World) -> None:
    for path in (
        "/api/reload",
        "/api/sites/blog/reload",
        "/api/sites/blog/rollback",
        "/api/sites/blog/restart",
        "/api/sites/blog/scale",
        "/logout",
    ):
        async with here.http.get(here.url + path, headers={**BEARER, **CHANGE}) as answer:
            assert answer.status == 405, path
    for verb in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        async with here.http.request(
            verb, f"{here.url}/api/sites/blog/reload", headers={**BEARER, **CHANGE}
        ) as answer:
            assert answer.status == 405, verb
    assert here.daemon.calls == []


@scene
async def test_every_answer_carries_the_headers_that_protect_it(here: World) -> None:
    paths = (
        "/",
        "/login",
        "/healthz",
        "/static/main.js",
        "/api/status",
        "/api/nothing",
        "/api/events",
        "/static/nothing",
    )
    for path in paths:
        async with here.http.get(here.url + path, headers=BEARER) as answer:
            policy = answer.headers["Content-Security-Policy"]
            for rule in (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "connect-src 'self'",
                "img-src 'self' data:",
                "form-action 'self'",
                "frame-ancestors 'none'",
                "base-uri 'none'",
            ):
                assert rule in policy.split("; "), (path, rule)
            assert "unsafe" not in policy
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cache-Control"] == (
                "no-cache" if path == "/static/main.js" else "no-store"
            )
            assert "aiohttp" not in answer.headers["Server"]


@scene
async def test_large_body_is_refused(here: World) -> None:
    body = {"workers": 1, "more": "x" * 5000}
    assert (await here.post("/api/sites/blog/scale", body))[0] == 413
    async with here.http.post(f"{here.url}/login", data={"token": "x" * 5000}) as answer:
        assert answer.status == 413
    assert here.daemon.calls == []


@scene
async def test_mistake_of_the_dashboard_shows_no_traceback(here: World) -> None:
    here.daemon.picture = lambda: {"neither": "fish", "nor": "flesh"}  # type: ignore[method-assign]
    status, answer = await here.get("/api/sites/blog/logs")
    assert status == 500
    assert set(answer) == {"error"}
    assert "Traceback" not in answer["error"]
    assert "KeyError" not in answer["error"]
