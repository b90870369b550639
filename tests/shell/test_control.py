from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

from djsup.shell.control import REQUEST_MAX_BYTES, Control, Peer, Refused

Ask = Callable[[bytes], Awaitable[list[dict[str, Any]]]]


async def answer(request: dict[str, Any], peer: Peer) -> AsyncGenerator[dict[str, Any], None]:
    if request["verb"] == "count":
        for number in range(request["to"]):
            yield {"progress": number}
        yield {"result": {"pid": peer.pid, "uid": peer.uid}}
    else:
        await asyncio.sleep(0.01)  # as a verb that has to look first
        raise Refused("no such verb", 2, ("one", "two"))


def with_control(tmp_path: Path, story: Callable[[Ask], Awaitable[None]], *, allowed: bool = True) -> None:
    async def run() -> None:
        control = Control(tmp_path / "control.sock", lambda _peer: allowed, answer)
        await control.start()

        async def ask(data: bytes) -> list[dict[str, Any]]:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
            writer.write(data)
            lines = [json.loads(line) async for line in reader]
            writer.close()
            return lines

        async with asyncio.timeout(20):
            await story(ask)
            await control.stop()

    asyncio.run(run())


def test_an_answer_is_its_lines_and_then_the_result(tmp_path: Path) -> None:
    async def story(ask: Ask) -> None:
        lines = await ask(b'{"verb": "count", "to": 2}\n')
        assert lines == [
            {"progress": 0},
            {"progress": 1},
            {"ok": True, "result": {"pid": os.getpid(), "uid": os.geteuid()}},
        ]

    with_control(tmp_path, story)


def test_what_cannot_be_done_is_refused_with_its_status_and_problems(tmp_path: Path) -> None:
    async def story(ask: Ask) -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        assert await ask(b'{"verb": "fly"}\n') == [
            {"ok": False, "error": "no such verb", "exit": 2, "problems": ["one", "two"]}
        ]
        assert not failures

    with_control(tmp_path, story)


def test_a_peer_that_may_not_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async def story(ask: Ask) -> None:
        assert "may not control" in (await ask(b"rubbish\n"))[0]["error"]

    with_control(tmp_path, story, allowed=False)


def test_rubbish_is_refused_in_words(tmp_path: Path) -> None:
    async def story(ask: Ask) -> None:
        for rubbish in (
            b"\xff\xfe\n",
            b"[]\n",
            b'{"verb": 3}\n',
            b"[" * 5000 + b"\n",
            b"x" * (2 * REQUEST_MAX_BYTES),
        ):
            (line,) = await ask(rubbish)
            assert line["ok"] is False
            assert line["exit"] == 2

    with_control(tmp_path, story)


def test_the_socket_is_its_owners_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    async def story(_ask: Ask) -> None:
        assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600

    with_control(tmp_path, story)
    assert not (tmp_path / "control.sock").exists()
