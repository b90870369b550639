"""The dashboard behind a reverse proxy: under another name, below a path, with clients that the proxy tells of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from djsup_web import auth
from web_ui.dashboard_process import TOKEN
from web_ui.world import BEARER, CHANGE, World, world

PREFIX = "/ops/djsup"
NAME = "ops.example.com"


def behind_a_proxy(play: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """As ``scene``, with a prefix, a name, and a proxy on loopback that is trusted."""

    def test(tmp_path: Path) -> None:
        async def main() -> None:
            async with world(tmp_path, prefix=PREFIX, names=[NAME], trusted=["127.0.0.0/8"]) as here:
                await play(here)

        asyncio.run(main())

    test.__name__ = play.__name__
    return test


@behind_a_proxy
async def test_everything_works_below_the_prefix_whether_the_proxy_cuts_it_off_or_not(here: World) -> None:
    for prefix in (PREFIX, ""):
        async with here.http.post(
            f"{here.url}{prefix}/login", data={"token": TOKEN}, allow_redirects=False
        ) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "./")
            (morsel,) = answer.cookies.values()
            assert morsel["path"] == f"{PREFIX}/"
        cookie = {"Cookie": f"{morsel.key}={morsel.value}"}
        async with here.http.get(f"{here.url}{prefix}/", headers=cookie) as page:
            assert page.status == 200
        async with here.http.get(f"{here.url}{prefix}/", allow_redirects=False) as page:
            assert (page.status, page.headers["Location"]) == (303, "login")
        async with here.stream(f"{prefix}/api/events", **cookie) as events:
            await events.next("snapshot")
        async with here.http.post(
            f"{here.url}{prefix}/api/sites/blog/reload", headers={**cookie, **CHANGE}
        ) as done:
            assert done.status == 200
        for path in ("/api/status", "/nothing"):
            async with here.http.get(f"{here.url}{prefix}{path}") as closed:
                assert closed.status == 401, path
    async with here.http.get(here.url + PREFIX, headers=cookie, allow_redirects=False) as page:
        assert (page.status, page.headers["Location"]) == (303, f"{PREFIX}/")
    assert (await here.get("/ops/api/status"))[0] == 404


@behind_a_proxy
async def test_the_pages_and_scripts_name_nothing_by_an_absolute_path(here: World) -> None:
    async with here.http.get(f"{here.url}{PREFIX}/", headers=BEARER) as page:
        text = await page.text()
    async with here.http.get(f"{here.url}{PREFIX}/login") as page:
        text += await page.text()
    named = re.findall(r'(?:href|src|action)="([^"]+)"', text)
    assert named
    for each in named:
        assert not each.startswith("/"), each
        if each.startswith("static/"):
            async with here.http.get(f"{here.url}{PREFIX}/{each}") as file:
                assert file.status == 200, each
    static = Path(__file__).parents[2] / "web_ui/djsup_web/static"
    for script in static.glob("*.js"):
        absolute = re.findall(r"""["'`]/(?:api|static|login|logout|metrics)\b""", script.read_text())
        assert not absolute, script.name


@behind_a_proxy
async def test_only_the_names_that_are_configured_are_answered_too(here: World) -> None:
    for ours in (NAME, f"{NAME}:8443", NAME.upper(), f"127.0.0.1:{here.port}"):
        assert (await here.get("/api/status", Host=ours))[0] == 200, ours
    for theirs in (f"x.{NAME}", "example.com", f"{NAME}.evil.example", "evil.example"):
        assert (await here.get("/api/status", Host=theirs))[0] == 421, theirs
    ours_asks = {"Host": NAME, "Origin": f"https://{NAME}"}
    for headers, status in ((ours_asks, 200), ({**ours_asks, "Origin": "https://evil.example"}, 403)):
        async with here.http.post(
            f"{here.url}/api/sites/blog/reload", headers={**BEARER, **CHANGE, **headers}
        ) as answer:
            assert answer.status == status


@behind_a_proxy
async def test_a_client_that_guesses_slows_no_other_client_of_the_proxy(here: World) -> None:
    for number in range(auth.ATTEMPTS_BURST):
        # What it writes itself comes first, what the proxy has seen last.
        guess = {"Authorization": "Bearer guess", "X-Forwarded-For": f"10.9.9.{number}, 192.0.2.66"}
        assert (await here.get("/api/status", **guess))[0] == 401
    assert (await here.get("/api/status", **{"X-Forwarded-For": "192.0.2.66, 127.0.0.1"}))[0] == 429
    assert (await here.get("/api/status", **{"X-Forwarded-For": "192.0.2.7"}))[0] == 200
    assert (await here.get("/api/status"))[0] == 200


@behind_a_proxy
async def test_the_cookie_of_a_client_that_came_by_https_is_for_https_only(here: World) -> None:
    for said, secure in (("https", True), ("http", ""), (None, "")):
        headers = {} if said is None else {"X-Forwarded-Proto": said}
        async with here.http.post(
            f"{here.url}/login", data={"token": TOKEN}, headers=headers, allow_redirects=False
        ) as answer:
            (morsel,) = answer.cookies.values()
            assert morsel["secure"] == secure


@pytest.mark.parametrize("trusted", [(), ("192.0.2.0/24",), ("unix",)])
def test_what_others_than_trusted_proxies_say_is_not_believed(
    tmp_path: Path, trusted: tuple[str, ...]
) -> None:
    async def main() -> None:
        async with world(tmp_path, trusted=trusted) as here:
            for number in range(auth.ATTEMPTS_BURST):
                guess = {"Authorization": "Bearer guess", "X-Forwarded-For": f"192.0.2.{number}"}
                assert (await here.get("/api/status", **guess))[0] == 401
            assert (await here.get("/api/status", **{"X-Forwarded-For": "192.0.2.200"}))[0] == 429
            here.clock.now += 1000
            async with here.http.post(
                f"{here.url}/login",
                data={"token": TOKEN},
                headers={"X-Forwarded-Proto": "https"},
                allow_redirects=False,
            ) as answer:
                (morsel,) = answer.cookies.values()
                assert not morsel["secure"]

    asyncio.run(main())
