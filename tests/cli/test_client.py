"""The client against a fake daemon on a real socket: the protocol, and each way in which it fails."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from djsup import client
from djsup.client import AsyncClient, Client, Line, NotRunning, Refused, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.fake_daemon import FakeDaemon


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """``call`` of either client, on the fake daemon's runtime directory."""
    folder = str(tmp_path / "run")
    if request.param == "blocking":
        return Client(folder).call

    def run(verb: str, *args: Any, **kwargs: Any) -> Any:
        return asyncio.run(AsyncClient(f"{folder}/control.sock", "cli").call(verb, *args, **kwargs))

    return run


@pytest.fixture(params=["blocking", "asyncio"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[Line]]:
    folder = str(tmp_path / "run")
    if request.param == "blocking":
        return lambda verb, *args, **kwargs: list(Client(folder).stream(verb, *args, **kwargs))

    async def collect(verb: str, *args: Any, **kwargs: Any) -> list[Line]:
        asking = AsyncClient(f"{folder}/control.sock").stream(verb, *args, **kwargs)
        return [line async for line in asking]

    return lambda verb, *args, **kwargs: asyncio.run(collect(verb, *args, **kwargs))


def test_call_gives_the_result_and_says_who_asks(daemon: FakeDaemon, call: Callable[..., Any]) -> None:
    daemon.answer("ping", {"result": {"pid": 42}})
    assert call("ping", site="blog") == {"pid": 42}
    assert daemon.asked == [{"verb": "ping", "by": "cli", "site": "blog"}]


def test_arguments_cannot_change_the_verb(daemon: FakeDaemon, call: Callable[..., Any]) -> None:
    daemon.answer("status", {"result": 1})
    call("status", by="root")
    assert daemon.asked[0]["by"] == "cli"


def test_stream_gives_each_line_and_the_result_last(
    daemon: FakeDaemon, stream: Callable[..., list[Line]]
) -> None:
    daemon.answer("events", {"event": {"id": 1}}, {"event": {"id": 2}}, {"result": {}})
    assert stream("events") == [Line("event", {"id": 1}), Line("event", {"id": 2}), Line("result", {})]


def test_lines_may_come_in_pieces_and_together(daemon: FakeDaemon, stream: Callable[..., list[Line]]) -> None:
    daemon.answer(
        "logs", b'{"log": {"text": "h', b'\xc3\xa9"}}\n{"log": 2}\n{"ok": tr', b'ue, "result": 3}\n'
    )
    assert stream("logs") == [Line("log", {"text": "hé"}), Line("log", 2), Line("result", 3)]


def test_refusal_carries_reason_problems_and_exit_status(
    daemon: FakeDaemon, call: Callable[..., Any]
) -> None:
    daemon.answer("reload", {"ok": False, "error": "not valid", "problems": ["a", "b"], "exit": 2})
    with pytest.raises(Refused, match="not valid") as refused:
        call("reload")
    assert refused.value.problems == ("a", "b")
    assert refused.value.exit == 2


def test_refusal_with_an_odd_exit_status_is_a_failure(daemon: FakeDaemon, call: Callable[..., Any]) -> None:
    daemon.answer("reload", {"ok": False, "error": "x", "exit": 0})
    with pytest.raises(Refused) as refused:
        call("reload")
    assert refused.value.exit == 1


def test_no_socket_means_not_running(tmp_path: Path, call: Callable[..., Any]) -> None:
    with pytest.raises(NotRunning, match=str(tmp_path / "run")):
        call("ping")


def test_stale_socket_means_not_running(tmp_path: Path, call: Callable[..., Any]) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "run" / "control.sock"))
    with pytest.raises(NotRunning, match="no daemon is running"):
        call("ping")


def test_connection_closed_before_the_result_means_not_running(
    daemon: FakeDaemon, call: Callable[..., Any]
) -> None:
    daemon.answer("status", {"event": {}}, b'{"ok": true, "resu')
    with pytest.raises(NotRunning, match="ended before it had answered to status"):
        call("status")


def test_silence_ends_in_time(daemon: FakeDaemon, call: Callable[..., Any]) -> None:
    daemon.answers["status"] = lambda _request: [{"result": 1}] if daemon.leaving.wait(30) else []
    begun = time.monotonic()
    with pytest.raises(TimedOut, match="status in time"):
        call("status", 0.2)
    assert time.monotonic() - begun < 5


def test_timeout_holds_for_the_whole_answer(daemon: FakeDaemon, call: Callable[..., Any]) -> None:
    def drip(_request: dict[str, Any]) -> Any:
        while not daemon.leaving.wait(0.05):
            yield {"progress": {}}

    daemon.answers["reload"] = drip
    with pytest.raises(TimedOut):
        call("reload", 0.3)


def test_line_without_end_is_bounded(
    daemon: FakeDaemon, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LINE_MAX_BYTES", 100_000)
    daemon.answer("status", b"x" * 1_000_000)
    with pytest.raises(Refused, match="longer than 100000 bytes"):
        call("status")


def test_long_line_within_the_bound_is_read(daemon: FakeDaemon, call: Callable[..., Any]) -> None:
    daemon.answer("status", {"result": "x" * 3_000_000})
    assert len(call("status")) == 3_000_000


@pytest.mark.parametrize(
    "line", [b"hello\n", b"[1]\n", b'{"ok": true}\n', b'{"a": 1, "b": 2}\n', b"[" * 100_000 + b"\n"]
)
def test_nonsense_is_an_error_of_its_own(daemon: FakeDaemon, call: Callable[..., Any], line: bytes) -> None:
    daemon.answer("status", line)
    with pytest.raises(Refused, match="the answer to status"):
        call("status")


def test_leaving_a_stream_closes_the_connection(daemon: FakeDaemon, tmp_path: Path) -> None:
    def endless(_request: dict[str, Any]) -> Any:
        while not daemon.leaving.wait(0.01):
            yield {"event": {}}

    daemon.answers["events"] = endless
    lines = Client(str(tmp_path / "run")).stream("events")
    next(lines)
    lines.close()
    assert daemon.connections_closed.acquire(timeout=5)


def test_cancelling_an_async_stream_closes_the_connection(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["watch"] = lambda _request: (
        [{"snapshot": {}}, daemon.leaving.wait(0) or {"snapshot": {}}] * 10**6
    )

    async def watch_for_a_moment() -> None:
        async def watch() -> None:
            async for _line in AsyncClient(str(tmp_path / "run" / "control.sock")).stream("watch"):
                seen.set()

        seen = asyncio.Event()
        watching = asyncio.create_task(watch())
        await asyncio.wait_for(seen.wait(), 5)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(watch_for_a_moment())
    assert daemon.connections_closed.acquire(timeout=5)


def test_answer_to_a_peer_that_is_not_let_in_is_read(tmp_path: Path, call: Callable[..., Any]) -> None:
    """The daemon answers before it has read the request, and hangs up."""
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "run" / "control.sock"))
        listener.listen()

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b'{"ok": false, "error": "you may not"}\n')

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(Refused, match="you may not"):
            call("ping")
        thread.join(5)
