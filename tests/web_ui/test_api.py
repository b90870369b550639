from __future__ import annotations

import json
from typing import Any

from djsup.core.snapshot import SiteState, from_json
from djsup_web import openapi
from web_ui.fake_daemon import TRACEBACK
from web_ui.world import BEARER, World, scene


@scene
async def test_status_is_the_daemons_picture(here: World) -> None:
    status, answer = await here.get("/api/status")
    assert status == 200
    assert [site.name for site in from_json(answer).sites] == ["blog", "shop"]


@scene
async def test_reload_waits_for_its_outcome_and_says_who_asked(here: World) -> None:
    status, answer = await here.post("/api/sites/blog/reload")
    assert (status, answer["sites"][0]["result"], answer["sites"][0]["generation"]) == (200, "done", 4)
    (call,) = [call for call in here.daemon.calls if call["verb"] == "reload"]
    assert call == {"verb": "reload", "sites": ["blog"], "wait": True, "by": "dashboard"}


@scene
async def test_reload_can_be_asked_to_try_the_code_first(here: World) -> None:
    status, _ = await here.post("/api/sites/blog/reload", {"canary_s": 30})
    assert status == 200
    (call,) = [call for call in here.daemon.calls if call["verb"] == "reload"]
    assert call["canary_s"] == 30
    for wrong in (-1, "30s", True, 1e9):
        status, _ = await here.post("/api/sites/blog/reload", {"canary_s": wrong})
        assert status == 400


@scene
async def test_reload_that_is_rolled_back_gives_the_traceback(here: World) -> None:
    here.daemon.sites["shop"].broken = True
    status, answer = await here.post("/api/sites/shop/reload")
    assert status == 200
    assert answer["sites"][0]["result"] == "rolled-back"
    assert answer["sites"][0]["details"] == TRACEBACK


@scene
async def test_reload_of_all_reads_the_configuration_again(here: World) -> None:
    status, answer = await here.post("/api/reload")
    assert (status, [site["result"] for site in answer["sites"]]) == (200, ["done", "done"])
    assert [call["sites"] for call in here.daemon.calls if call["verb"] == "reload"] == [[]]


@scene
async def test_rollback_is_asked_of_the_daemon_and_its_outcome_told(here: World) -> None:
    status, answer = await here.post("/api/sites/blog/rollback")
    assert (status, [site["result"] for site in answer["sites"]]) == (200, ["done"])
    assert [call["site"] for call in here.daemon.calls if call["verb"] == "rollback"] == ["blog"]


@scene
async def test_restart_gives_the_state_afterwards(here: World) -> None:
    assert await here.post("/api/sites/blog/restart") == (200, {"site": "blog", "state": "serving"})


@scene
async def test_a_site_is_stopped_and_started_and_health_is_well_meanwhile(here: World) -> None:
    stopped = {"name": "blog", "state": "stopped", "changed": True, "error": None}
    assert await here.post("/api/sites/blog/stop", {"now": True}) == (200, stopped)
    assert await here.post("/api/sites/blog/stop") == (200, stopped | {"changed": False})
    assert [call["now"] for call in here.daemon.calls if call["verb"] == "stop_sites"] == [True, False]
    assert (await here.get("/healthz"))[0] == 200, "it is as somebody wants it"
    assert await here.post("/api/sites/blog/start") == (200, stopped | {"state": "serving"})
    assert (await here.post("/api/sites/blog/stop", {"now": "yes"}))[0] == 400


@scene
async def test_profile_gives_what_was_seen_and_takes_only_a_bounded_time(here: World) -> None:
    status, answer = await here.post("/api/sites/shop/profile", {"seconds": 1})
    assert (status, answer["samples"], answer["stacks"][0][0]) == (200, 500, 310)
    wrong: tuple[Any, ...] = (0, 121, True, "5", None, [])
    for seconds in wrong:
        assert (await here.post("/api/sites/shop/profile", {"seconds": seconds}))[0] == 400, seconds
    assert [call["seconds"] for call in here.daemon.calls if call["verb"] == "profile"] == [1.0]


@scene
async def test_scale_takes_a_number_or_a_change(here: World) -> None:
    assert await here.post("/api/sites/blog/scale", {"workers": 5}) == (200, {"site": "blog", "workers": 5})
    assert await here.post("/api/sites/blog/scale", {"workers": "-2"}) == (
        200,
        {"site": "blog", "workers": 3},
    )
    assert len(here.daemon.sites["blog"].workers) == 3


@scene
async def test_scale_refuses_what_is_no_number_of_workers(here: World) -> None:
    wrong: tuple[Any, ...] = (0, -1, 129, 1.5, True, None, "2", "+", "+1000", "+1; drop", [], {})
    for workers in wrong:
        assert (await here.post("/api/sites/blog/scale", {"workers": workers}))[0] == 400, workers
    no_objects: tuple[Any, ...] = ([], "x", 3)
    for body in no_objects:
        assert (await here.post("/api/sites/blog/scale", body))[0] == 400
    async with here.http.post(
        f"{here.url}/api/sites/blog/scale", headers={**BEARER, "X-Djsup": "1"}, data="workers=3"
    ) as answer:
        assert answer.status == 415
    assert len(here.daemon.sites["blog"].workers) == 2


@scene
async def test_unknown_site_is_not_found(here: World) -> None:
    for path in (
        "/api/sites/none/reload",
        "/api/sites/none/restart",
        "/api/sites/none/stop",
        "/api/sites/none/start",
        "/api/sites/%20/reload",
        "/api/sites/..%2F/restart",
    ):
        assert (await here.post(path))[0] == 404, path
    assert (await here.post("/api/sites/none/scale", {"workers": 2}))[0] == 404
    assert (await here.get("/api/sites/none/logs"))[0] == 404
    assert (await here.get("/api/sites/none/logs?follow=1"))[0] == 404
    assert {call["verb"] for call in here.daemon.calls} <= {"status"}


@scene
async def test_refusal_of_the_daemon_comes_through_with_every_problem(here: World) -> None:
    problems = ["djsup.toml:3: sites.blog.workers: found -1", "djsup.toml:9: unknown key"]
    here.daemon.refusal = {
        "ok": False,
        "error": "the configuration is wrong",
        "problems": problems,
        "exit": 2,
    }
    assert await here.post("/api/reload") == (
        422,
        {"error": "the configuration is wrong", "problems": problems},
    )
    here.daemon.refusal = {"ok": False, "error": "it failed", "exit": 1}
    assert await here.post("/api/reload") == (409, {"error": "it failed", "problems": []})


@scene
async def test_history_and_logs_give_the_last_entries_oldest_first(here: World) -> None:
    for number in range(5):
        here.daemon.happen("worker-ready", "blog" if number % 2 else "shop", f"event {number}")
        here.daemon.say("blog", f"line {number}")
    here.daemon.say("shop", "not of blog")
    status, answer = await here.get("/api/history?limit=3")
    assert (status, [event["text"] for event in answer["events"]]) == (200, ["event 2", "event 3", "event 4"])
    _, answer = await here.get("/api/history?site=blog")
    assert [event["text"] for event in answer["events"]] == ["event 1", "event 3"]
    _, answer = await here.get("/api/sites/blog/logs?limit=4")
    assert [line["text"] for line in answer["lines"]][-1] == "line 4"
    for wrong in ("0", "-1", "1001", "many", "", "1e3", "\u0663"):
        assert (await here.get(f"/api/history?limit={wrong}"))[0] == 400, wrong


@scene
async def test_health_needs_no_token_and_names_who_does_not_serve(here: World) -> None:
    async def health() -> tuple[int, object]:
        here.daemon.calls.clear()
        await until_asked_again()
        async with here.http.get(f"{here.url}/healthz") as answer:
            return answer.status, await answer.json()

    async def until_asked_again() -> None:
        # An open page keeps the picture new; without one it may be a second old.
        async with here.stream() as events:
            await events.next("snapshot")
            await events.next("snapshot")

    assert await health() == (200, {"status": "ok", "sites": []})
    for state in (SiteState.DEGRADED, SiteState.RELOADING, SiteState.SLEEPING):
        here.daemon.sites["shop"].state = state
        assert (await health())[0] == 200, state
    for state in (
        SiteState.STARTING,
        SiteState.BACKING_OFF,
        SiteState.FAILED,
        SiteState.STOPPING,
        SiteState.STOPPED,
    ):
        here.daemon.sites["shop"].state = state
        assert await health() == (503, {"status": "failing", "sites": ["shop"]}), state


@scene
async def test_health_asked_in_a_hurry_asks_the_daemon_once(here: World) -> None:
    for _ in range(20):
        async with here.http.get(f"{here.url}/healthz") as answer:
            assert answer.status == 200
    assert len(here.daemon.calls) <= 2


@scene
async def test_without_a_daemon_the_api_says_so(here: World) -> None:
    await here.daemon.stop()
    for path in ("/api/status", "/api/history", "/api/sites/blog/logs"):
        status, answer = await here.get(path)
        assert (status, bool(answer["error"])) == (503, True), path
    assert (await here.post("/api/reload"))[0] == 503
    async with here.http.get(f"{here.url}/healthz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (503, "unknown")
    async with here.http.get(f"{here.url}/", headers=BEARER) as page:
        assert page.status == 200
    await here.daemon.start()
    assert (await here.get("/api/status"))[0] == 200


@scene
async def test_openapi_describes_exactly_the_routes_that_there_are(here: World) -> None:
    status, document = await here.get("/api/openapi.json")
    assert status == 200
    assert document == json.loads(json.dumps(openapi.DOCUMENT))
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert described == here.routes


@scene
async def test_openapi_schemas_name_what_the_answers_hold(here: World) -> None:
    _, picture = await here.get("/api/status")
    schemas = openapi.DOCUMENT["components"]["schemas"]
    status = schemas["Status"]["properties"]
    assert set(status["daemon"]["required"]) == set(picture["daemon"])
    site = picture["sites"][0]
    described = status["sites"]["items"]
    assert set(described["required"]) <= set(site)
    assert set(described["properties"]) == set(site)
    assert set(schemas["Worker"]["required"]) == set(site["workers"][0])
    assert set(described["properties"]["last_reload"]["properties"]) == set(site["last_reload"])
    assert described["properties"]["state"]["enum"] == [state.value for state in SiteState]
    here.daemon.happen("scaled", "blog", "x")
    here.daemon.say("blog", "x")
    _, history = await here.get("/api/history")
    assert set(schemas["Event"]["properties"]) == set(history["events"][0])
    _, logs = await here.get("/api/sites/blog/logs")
    assert set(schemas["LogLine"]["properties"]) == set(logs["lines"][0])
