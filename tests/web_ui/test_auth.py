from __future__ import annotations

import hashlib

import pytest

from djsup_web import auth
from djsup_web.auth import Attempts, Right, Sessions, Tokens
from web_ui.dashboard_process import TOKEN
from web_ui.world import BEARER, CHANGE, LOOK, READ_TOKEN, Clock, World, scene, sha256

SHA256 = hashlib.sha256(TOKEN.encode()).digest()


def test_only_the_token_matches_its_hash() -> None:
    tokens = Tokens([SHA256])
    assert tokens.find(TOKEN) == SHA256
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), SHA256.hex(), "\udcff", "t\u00f6ken"):
        assert tokens.find(wrong) is None


def test_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[object, object]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    other = hashlib.sha256(b"another").digest()
    assert Tokens([SHA256], [other]).find("another") == other
    wrong = hashlib.sha256(b"another").digest()
    assert sorted(compared) == sorted([(wrong, SHA256), (wrong, other)])  # all of them, whichever it is


def test_session_is_valid_until_it_expires() -> None:
    clock = Clock()
    sessions = Sessions(Tokens([SHA256]), clock)
    cookie = sessions.open(SHA256)
    clock.now += auth.SESSION_S - 1
    assert sessions.right(cookie)
    clock.now += 1
    assert not sessions.right(cookie)


def test_session_outlives_a_restart_and_ends_with_its_token() -> None:
    clock = Clock()
    cookie = Sessions(Tokens([SHA256]), clock).open(SHA256)
    assert Sessions(Tokens([SHA256]), clock).right(cookie)
    assert not Sessions(Tokens([hashlib.sha256(b"a new token").digest()]), clock).right(cookie)


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
    sessions = Sessions(Tokens([SHA256]), Clock())
    assert not sessions.right(change(sessions.open(SHA256)))


def test_session_does_not_hold_the_token() -> None:
    cookie = Sessions(Tokens([SHA256]), Clock()).open(SHA256)
    assert TOKEN not in cookie
    assert SHA256.hex() not in cookie


def test_two_sessions_differ_and_one_logs_out_alone() -> None:
    sessions = Sessions(Tokens([SHA256]), Clock())
    one, other = sessions.open(SHA256), sessions.open(SHA256)
    assert one != other
    sessions.close(one)
    assert (sessions.right(one), sessions.right(other)) == (None, Right.CHANGE)


def test_memory_of_ended_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "LOGGED_OUT_MAX", 3)
    clock = Clock()
    sessions = Sessions(Tokens([SHA256]), clock)
    for _ in range(10):
        sessions.close(sessions.open(SHA256))
    assert len(sessions._logged_out) == 3
    clock.now += auth.SESSION_S + 1
    sessions.close(sessions.open(SHA256))
    assert len(sessions._logged_out) == 1


def test_guessing_is_slowed_and_patience_is_rewarded() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for _ in range(auth.ATTEMPTS_BURST):
        assert attempts.wait_s("192.0.2.1") == 0
        attempts.failed("192.0.2.1")
    assert attempts.wait_s("192.0.2.1") == pytest.approx(auth.ATTEMPT_EVERY_S)
    assert attempts.wait_s("192.0.2.2") == 0
    clock.now += auth.ATTEMPT_EVERY_S + 0.001
    assert attempts.wait_s("192.0.2.1") == 0
    attempts.failed("192.0.2.1")
    assert attempts.wait_s("192.0.2.1") > 0


def test_whoever_has_a_whole_network_of_ipv6_guesses_no_faster() -> None:
    attempts = Attempts(Clock())
    for number in range(auth.ATTEMPTS_BURST):
        attempts.failed(f"2001:db8:0:7::{number:x}")
    assert attempts.wait_s("2001:db8:0:7:ffff::1") > 0
    assert attempts.wait_s("2001:db8:0:8::1") == 0
    for _ in range(auth.ATTEMPTS_BURST):
        attempts.failed("::ffff:192.0.2.1")
    assert attempts.wait_s("192.0.2.1") > 0


def test_memory_of_those_who_guess_is_bounded_and_the_many_share_one_count() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    for number in range(3 * auth.NETWORKS_MAX):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(attempts._spent) <= auth.NETWORKS_MAX + 1
    assert attempts.wait_s("192.0.2.1") > 0
    clock.now += auth.ATTEMPTS_BURST * auth.ATTEMPT_EVERY_S
    assert attempts.wait_s("192.0.2.1") == 0
    attempts.failed("192.0.2.1")
    assert set(attempts._spent) == {"192.0.2.1"}


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
            assert await answer.json() == {"logged_in": logged_in, "may_change": logged_in}


@scene
async def test_a_read_only_token_looks_at_everything_and_changes_nothing(here: World) -> None:
    cookie = {"Cookie": await here.log_in(READ_TOKEN)}
    for credentials in (LOOK, cookie):
        for path in (
            "/api/status",
            "/api/daemon",
            "/api/history",
            "/api/sites/blog/logs",
            "/api/sites/blog/stacks",
        ):
            async with here.http.get(here.url + path, headers=credentials) as answer:
                assert answer.status == 200, path
        before = len(here.daemon.calls)
        for path, method in sorted(here.routes):
            if method != "POST":
                continue
            url = here.url + path.replace("{name}", "blog")
            async with here.http.post(url, headers={**credentials, **CHANGE}, json={"workers": 3}) as answer:
                assert answer.status == 403, path
                assert "may look" in (await answer.json())["error"]
        assert len(here.daemon.calls) == before
    async with here.http.get(f"{here.url}/api/session", headers=cookie) as answer:
        assert await answer.json() == {"logged_in": True, "may_change": False}
    async with here.http.post(f"{here.url}/logout", headers={**cookie, **CHANGE}) as answer:
        assert answer.status == 204


@scene
async def test_a_token_that_is_taken_away_ends_its_sessions_and_streams(here: World) -> None:
    cookie = {"Cookie": await here.log_in()}
    async with here.stream(**cookie) as by_cookie, here.stream(**BEARER) as by_token:
        await by_cookie.next("snapshot")
        await by_token.next("snapshot")
        here.tokens.replace([sha256("another")], [sha256(READ_TOKEN)])
        await by_cookie.end()
        await by_token.end()
    assert (await here.get("/api/status"))[0] == 401
    async with here.http.get(f"{here.url}/api/status", headers=cookie) as answer:
        assert answer.status == 401
    for valid in ({"Authorization": "Bearer another"}, LOOK):
        async with here.http.get(f"{here.url}/api/status", headers=valid) as answer:
            assert answer.status == 200
