from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from djsup_web import feed, live, mailbox, streams, upstream
from djsup_web.mailbox import Mailbox, frame
from web_ui.world import BEARER, CHANGE, World, scene, until


@scene
async def test_page_is_sent_snapshots_and_events_as_they_come(here: World) -> None:
    here.daemon.happen("site-serving", "blog", "before the page came")
    async with here.stream() as events:
        snapshot = json.loads(await events.next("snapshot"))
        assert [site["name"] for site in snapshot["sites"]] == ["blog", "shop"]
        assert json.loads(await events.next("event"))["text"] == "before the page came"
        here.daemon.happen("worker-died", "shop", "while it was open")
        assert json.loads(await events.next("event"))["text"] == "while it was open"
        await events.next("snapshot")


@scene
async def test_many_pages_share_one_watch(here: World) -> None:
    async with AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(here.stream()) for _ in range(12)]
        for page in pages:
            await page.next("snapshot")
        assert here.daemon.watching == 1
        assert [call["verb"] for call in here.daemon.calls].count("watch") == 1
        assert [call["verb"] for call in here.daemon.calls].count("events") == 1


def test_daemon_is_asked_nothing_when_no_page_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LINGER_S", 0.05)
    _watch_ends(tmp_path)


@scene
async def _watch_ends(here: World) -> None:
    async with here.stream() as events:
        await events.next("snapshot")
        assert here.daemon.watching == 1
    await until(lambda: here.daemon.watching == 0, "the watch to end")


@scene
async def test_page_that_comes_late_is_sent_what_happened_before(here: World) -> None:
    async with here.stream() as first:
        await first.next("snapshot")
        here.daemon.happen("scaled", "blog", "one")
        await first.next("event")
        async with here.stream() as second:
            assert json.loads(await second.next("event"))["text"] == "one"


@scene
async def test_progress_of_an_action_is_told_to_every_page(here: World) -> None:
    async with here.stream() as events:
        await events.next("snapshot")
        await here.post("/api/sites/blog/reload")
        progress = json.loads(await events.next("progress"))
        assert progress["site"] == "blog"
        assert "generation 4" in progress["text"]


@scene
async def test_page_is_told_that_the_daemon_is_gone_and_recovers_by_itself(here: World) -> None:
    async with here.stream() as events:
        await events.next("snapshot")
        await here.daemon.stop()
        link = json.loads(await events.next("link"))
        assert link["connected"] is False
        assert link["error"]
        await here.daemon.start()
        assert json.loads(await events.next("link"))["connected"] is True
        await events.next("snapshot")


@scene
async def test_page_opened_without_a_daemon_is_told_so(here: World) -> None:
    await here.daemon.stop()
    async with here.stream() as events:
        assert json.loads(await events.next("link"))["connected"] is False


def test_silent_daemon_counts_as_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "SILENCE_MAX_S", 0.2)
    _silence(tmp_path)


@scene
async def _silence(here: World) -> None:
    here.daemon.mute = True
    async with here.stream() as events:
        link = json.loads(await events.next("link"))
        assert link["connected"] is False
        assert "said nothing" in link["error"]


@scene
async def test_log_is_followed_with_its_last_lines_first(here: World) -> None:
    here.daemon.say("blog", "one")
    here.daemon.say("shop", "another site's")
    async with (
        here.stream("/api/sites/blog/logs?follow=1") as log,
        here.stream("/api/sites/blog/logs?follow=1") as other,
    ):
        for page in (log, other):
            assert json.loads(await page.next("log"))["text"] == "one"
        here.daemon.say("blog", "<script>two</script>")
        for page in (log, other):
            assert json.loads(await page.next("log"))["text"] == "<script>two</script>"
        assert [call["verb"] for call in here.daemon.calls].count("logs") == 1


def test_number_of_streams_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAGES_MAX", 2)
    _third_page_is_refused(tmp_path)


@scene
async def _third_page_is_refused(here: World) -> None:
    async with here.stream() as one, here.stream() as two:
        await one.next("snapshot")
        await two.next("snapshot")
        assert (await here.get("/api/events"))[0] == 503
        assert (await here.get("/api/sites/blog/logs?follow=1"))[0] == 503
    await until_room(here)


async def until_room(here: World) -> None:
    """A page that closed is noticed at the next thing to send."""
    for _ in range(200):
        async with here.http.get(f"{here.url}/api/events", headers=BEARER) as answer:
            if answer.status == 200:
                return
        await asyncio.sleep(0.02)
    raise AssertionError("a closed page still counts")


def test_quiet_stream_is_kept_alive_by_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    _comments(tmp_path)


@scene
async def _comments(here: World) -> None:
    async with here.stream("/api/sites/blog/logs?follow=1") as log, asyncio.timeout(10):
        while await log.answer.content.readline() != b": still here\n":
            pass


@scene
async def test_action_goes_on_when_its_page_is_closed(here: World) -> None:
    here.daemon.sites["blog"].reload_s = 0.2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await here.http.post(f"{here.url}/api/sites/blog/reload", headers={**BEARER, **CHANGE})
    await until(lambda: here.daemon.sites["blog"].generation == 4, "the reload to end")


def test_slow_page_gets_only_the_newest_snapshot_and_the_last_events(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_late() -> bytes | None:
        slow = Mailbox()
        for number in range(50):
            slow.put(frame("snapshot", number, replaces=True))
        for number in range(mailbox.WAITING_MAX + 5):
            slow.put(frame("event", number))
        return await slow.take(1)

    sent = asyncio.run(read_late())
    assert sent is not None
    assert sent.count(b"event: snapshot\n") == 1
    assert b"data: 49\n" in sent
    assert sent.count(b"event: event\n") == mailbox.WAITING_MAX
    assert b"data: 4\n" not in sent


def test_text_cannot_break_out_of_its_frame() -> None:
    nasty = frame("event", {"text": "one\n\nevent: snapshot\ndata: {}\r\n\u2028"})
    assert nasty.data.count(b"\n") == 3
    assert b"\r" not in nasty.data
