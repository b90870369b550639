from __future__ import annotations

import hashlib

import pytest

from djsup_web import auth
from djsup_web.auth import Attempts, Sessions, Token
from web_ui.dashboard_process import TOKEN
from web_ui.world import BEARER, CHANGE, Clock, World, scene

SHA256 = hashlib.sha256(TOKEN.encode()).digest()


def test_only_the_token_matches_its_hash() -> None:
    token = Token(SHA256)
    assert token.matches(TOKEN)
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), SHA256.hex(), "\udcff", "t\u00f6ken"):
        assert not token.matches(wrong)


def test_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[object, object]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert not Token(SHA256).matches("wrong")
    assert compared == [(hashlib.sha256(b"wrong").digest(), SHA256)]


def test_session_is_valid_until_it_expires() -> None:
    clock = Clock()
    sessions = Sessions(SHA256, clock)
    cookie = sessions.open()
    clock.now += auth.SESSION_S - 1
    assert sessions.valid(cookie)
    clock.now += 1
    assert not sessions.valid(cookie)


def test_session_outlives_a_restart_and_ends_with_its_token() -> None:
    clock = Clock()
    cookie = Sessions(SHA256, clock).open()
    assert Sessions(SHA256, clock).valid(cookie)
    assert not Sessions(hashlib.sha256(b"a new token").digest(), clock).valid(cookie)


@pytest.mark.parametrize(
    "change",
    [
        lambda cookie: "9" + cookie,
        lambda cookie: cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        lambda cookie: cookie.rpartition(".")[0],
        lambda cookie: cookie.rpartition(".")[0] + ".",
        lambda _cookie: "",
        lambda _cookie: "..",
        lambda cookie: cookie + "0" * 300,
        lambda cookie: cookie + "\u00e9",
    ],
)
def test_changed_session_is_worth_nothing(change: object) -> None:
    assert callable(change)
    sessions = Sessions(SHA256, Clock())
    assert not sessions.valid(change(sessions.open()))


def test_session_does_not_hold_the_token() -> None:
    cookie = Sessions(SHA256, Clock()).open()
    assert TOKEN not in cookie
    assert SHA256.hex() not in cookie


def test_two_sessions_differ_and_one_logs_out_alone() -> None:
    sessions = Sessions(SHA256, Clock())
    one, other = sessions.open(), sessions.open()
    assert one != other
    sessions.close(one)
    assert (sessions.valid(one), sessions.valid(other)) == (False, True)


def test_memory_of_ended_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "LOGGED_OUT_MAX", 3)
    clock = Clock()
    sessions = Sessions(SHA256, clock)
    for _ in range(10):
        sessions.close(sessions.open())
    assert len(sessions._logged_out) == 3
    clock.now += auth.SESSION_S + 1
    sessions.close(sessions.open())
    assert len(sessions._logged_out) == 1


def test_guessing_is_slowed_and_patience_is_rewarded() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(auth.ATTEMPTS_BURST):
        assert attempts.wait_s() == 0
        attempts.failed()
    assert attempts.wait_s() == pytest.approx(auth.ATTEMPT_EVERY_S)
    clock.now += auth.ATTEMPT_EVERY_S + 0.001
    assert attempts.wait_s() == 0
    attempts.failed()
    assert attempts.wait_s() > 0


@scene
async def test_bearer_token_opens_the_api_and_a_wrong_one_does_not(here: World) -> None:
    assert (await here.get("/api/status"))[0] == 200
    for wrong in ("Bearer wrong", "Bearer", "Basic " + TOKEN, TOKEN):
        status, answer = await here.get("/api/status", Authorization=wrong)
        assert status == 401
        assert TOKEN not in answer["error"]
    assert here.daemon.calls != []
    assert {call["verb"] for call in here.daemon.calls} == {"status"}


@scene
async def test_nothing_but_the_public_paths_answers_without_a_token(here: World) -> None:
    paths = (
        "/api/status",
        "/api/events",
        "/api/history",
        "/api/openapi.json",
        "/api/sites/blog/logs",
        "/api/nothing",
        "/x",
    )
    for path in paths:
        async with here.http.get(here.url + path) as answer:
            assert answer.status == 401, path
    for path in (
        "/api/reload",
        "/api/sites/blog/reload",
        "/api/sites/blog/rollback",
        "/api/sites/blog/restart",
        "/api/sites/blog/scale",
        "/logout",
    ):
        async with here.http.post(here.url + path, headers=CHANGE, json={"workers": 3}) as answer:
            assert answer.status == 401, path
    assert here.daemon.calls == []
    for path in ("/login", "/healthz", "/api/session", "/static/base.css"):
        async with here.http.get(here.url + path) as answer:
            assert answer.status == 200, path


@scene
async def test_written_otherwise_a_private_path_stays_private(here: World) -> None:
    from yarl import URL  # noqa: PLC0415

    for path in (
        "/static/%2e%2e/api/status",
        "/static/..%2fapi/status",
        "//api/status",
        "/login/../api/status",
        "/api/session%2f../status",
    ):
        url = URL(here.url + path, encoded=True)
        async with here.http.get(url, allow_redirects=False) as answer:
            assert answer.status in {401, 404}, path
    assert here.daemon.calls == []


@scene
async def test_page_without_a_session_leads_to_the_login(here: World) -> None:
    async with here.http.get(here.url + "/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "login")


@scene
async def test_login_makes_a_cookie_that_scripts_and_other_sites_cannot_use(here: World) -> None:
    async with here.http.post(f"{here.url}/login", data={"token": TOKEN}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "./")
        (morsel,) = answer.cookies.values()
    assert morsel.key == f"djsup_session_{here.port}"
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", "/")
    assert TOKEN not in morsel.value
    cookie = {"Cookie": f"{morsel.key}={morsel.value}"}
    async with here.http.get(here.url + "/", headers=cookie) as page:
        assert page.status == 200
    async with here.http.get(here.url + "/api/status", headers=cookie) as status:
        assert status.status == 200


@scene
async def test_wrong_token_is_told_and_makes_no_session(here: World) -> None:
    for data in ({"token": "wrong"}, {"token": ""}, {}):
        async with here.http.post(f"{here.url}/login", data=data) as answer:
            page = await answer.text()
            assert (answer.status, answer.cookies) == (401, {})
            assert "That is not the token." in page
            assert "WWW-Authenticate" not in answer.headers  # the browser would ask in a window of its own


@scene
async def test_login_attempts_are_slowed_even_for_the_right_token(here: World) -> None:
    for _ in range(auth.ATTEMPTS_BURST):
        assert (await here.get("/api/status", Authorization="Bearer guess"))[0] == 401
    async with here.http.post(f"{here.url}/login", data={"token": TOKEN}) as answer:
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await here.get("/api/status"))[0] == 429
    here.clock.now += auth.ATTEMPT_EVERY_S + 1
    assert (await here.get("/api/status"))[0] == 200


@scene
async def test_open_session_is_not_slowed_by_who_guesses(here: World) -> None:
    cookie = await here.log_in()
    for _ in range(auth.ATTEMPTS_BURST + 1):
        await here.get("/api/status", Authorization="Bearer guess")
    async with here.http.get(here.url + "/api/status", headers={"Cookie": cookie}) as answer:
        assert answer.status == 200


@scene
async def test_logout_ends_the_session_everywhere(here: World) -> None:
    cookie = {"Cookie": await here.log_in()}
    async with here.stream(**cookie) as events:
        await events.next("snapshot")
        async with here.http.post(f"{here.url}/logout", headers={**cookie, **CHANGE}) as answer:
            assert answer.status == 204
        await events.end()
    async with here.http.get(here.url + "/api/status", headers=cookie) as answer:
        assert answer.status == 401


@scene
async def test_stream_ends_when_its_session_expires(here: World) -> None:
    async with here.stream(Cookie=await here.log_in()) as events:
        await events.next("snapshot")
        here.clock.now += auth.SESSION_S + 1
        await events.end()


@scene
async def test_session_route_says_whether_one_is_logged_in(here: World) -> None:
    cookie = await here.log_in()
    for headers, logged_in in (({"Cookie": cookie}, True), ({}, False), (BEARER, False)):
        async with here.http.get(f"{here.url}/api/session", headers=headers) as answer:
            assert await answer.json() == {"logged_in": logged_in}
