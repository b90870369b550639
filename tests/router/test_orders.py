"""The daemon and a router of another version: each passes over what it does not know, and does the rest."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from djsup.core.routes import Routing
from djsup.router import orders
from djsup.router.__main__ import OTHER_REVISION
from djsup.router.orders import Figures
from djsup.router_line import RouterLine
from djsup.shell import heirloom
from djsup.shell.sockets import Listeners
from djsup_worker.messages import REVISION
from router.test_routing import A, get
from router.world import WAIT_S, answers, strange, wait_until, world


@dataclass
class Process:
    """A router's process, as the daemon runs it, and the daemon's end of its channel."""

    process: subprocess.Popen[bytes]
    channel: socket.socket

    def say(self, message: dict[str, Any], *fds: int) -> None:
        orders.send(self.channel, message, list(fds))

    def heard(self, kind: str) -> dict[str, Any]:
        self.channel.settimeout(WAIT_S)
        while found := orders.receive(self.channel):
            message, fds = found
            for fd in fds:
                os.close(fd)
            if message["kind"] == kind:
                return message
        raise AssertionError("it has ended")


@contextlib.contextmanager
def running(folder: Path, revision: int = REVISION) -> Iterator[Process]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, heirloom.open_home(folder / "router.sock") as home:
        own = {
            "DJSUP_ROUTER_FD": str(theirs.fileno()),
            "DJSUP_ROUTER_HOME_FD": str(home.fileno()),
            "DJSUP_ROUTER_GRACE": "5",
            "DJSUP_ROUTER_REVISION": str(revision),
        }
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "djsup.router"],
            env=own, pass_fds=(theirs.fileno(), home.fileno()), stderr=subprocess.PIPE,
        )  # fmt: skip
        theirs.close()
        with process:
            try:
                yield Process(process, ours)
            finally:
                process.kill()


def routing(**more: Any) -> int:
    """The routing of one site, in memory, as a version writes it that knows more of all things."""
    raw = {**Routing((A,)).to_json(), **more}
    raw["sites"] = [{**each, **more} for each in raw["sites"]]
    return orders.memory_of(raw)


def test_a_router_obeys_a_daemon_that_says_more_or_less_than_it_knows(tmp_path: Path) -> None:
    with (
        running(tmp_path) as router,
        socket.create_server(("127.0.0.1", 0)) as listener,
        world(A) as made,
        strange() as odd,
    ):
        memory = routing(tomorrow=1)
        router.say({"kind": "tomorrow"}, odd, listener.fileno())
        router.say({"kind": "routing", "listeners": ["here"], "tomorrow": 1}, memory, listener.fileno(), odd)
        os.close(memory)
        router.heard("vault")
        for message in (
            {"kind": "tomorrow", "more": [1]},
            {"kind": "routing"},
            {"kind": "worker", "site": "a"},
            {"kind": "worker"},
            {"kind": "alive"},
            {"kind": "gone"},
        ):
            router.say(message, odd, odd)
        router.channel.send(b'{"kind"')
        socket.send_fds(router.channel, [b'{"no": "kind"}'], [odd])
        router.say({"kind": "alive", "names": [], "tomorrow": 1})
        routers, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with routers:
            router.say({"kind": "worker", "site": "a", "name": 7, "tomorrow": 1}, routers.fileno(), odd)
        made.give_line(workers)
        with socket.create_connection(listener.getsockname(), timeout=WAIT_S) as client:
            client.sendall(get("a.example"))
            assert answers(client, 1) == [(200, b"a")]


def test_a_router_that_speaks_otherwise_with_workers_says_what_is_to_be_done_and_ends(tmp_path: Path) -> None:
    with running(tmp_path, REVISION + 1) as router:
        assert router.process.wait(WAIT_S) == OTHER_REVISION
        assert router.process.stderr is not None
        assert b"djsup upgrade" in router.process.stderr.read()


@contextlib.asynccontextmanager
async def line() -> AsyncIterator[tuple[RouterLine, socket.socket]]:
    made = RouterLine(Path("/nowhere"), Listeners(), lambda _event: None)
    with made.open() as theirs:
        yield made, theirs
    made.close()
    made.take_vault(None)


def test_a_daemon_hears_a_router_that_says_more_or_less_than_it_knows() -> None:
    asyncio.run(_hears())


async def _hears() -> None:
    async with line() as (daemon, router):
        with strange() as odd:
            for message in (
                {"kind": "tomorrow"},
                {"kind": "figures"},
                {"kind": "figures", "sites": {"a": None, "b": {"routed": "x"}}},
                {"kind": "waiting"},
                {"kind": "vault"},
            ):
                orders.send(router, message, [odd])
            router.send(b"[]")
            socket.send_fds(router, [b"{}"], [odd])
            figures = {**orders.as_json(Figures(routed=3)), "tomorrow": 1}
            del figures["waited_s"]
            orders.send(router, {"kind": "figures", "sites": {"a": figures}, "tomorrow": 1}, [odd])
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                orders.send(router, {"kind": "vault", "tomorrow": 1}, [theirs.fileno(), odd])
                await asyncio.to_thread(wait_until, lambda: daemon.vault is not None)
                assert daemon.vault is not None
                daemon.vault.send(b"here")
                assert ours.recv(10) == b"here"
            assert daemon.figures(A.site) == Figures(routed=3)
            assert daemon.is_open


def test_a_daemon_inherits_from_a_router_that_gives_more_than_it_knows(tmp_path: Path) -> None:
    def give() -> None:
        with socket.socket() as odd:
            asker = heirloom.give(home, [("here", listener), ("(tomorrow)", odd)])
        assert asker is not None
        heirloom.say_last(asker, {"a": {"routed": 3, "tomorrow": 1}, "b": None})

    with (
        heirloom.open_home(tmp_path / "router.sock") as home,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        giver = threading.Thread(target=give)
        giver.start()
        given, figures = heirloom.ask(tmp_path / "router.sock")
        giver.join()
    assert [name for name, _ in given] == ["here", "(tomorrow)"]
    for _, sock in given:
        sock.close()
    daemon = RouterLine(tmp_path / "router.sock", Listeners(), lambda _event: None)
    daemon.count_on((), figures)
    assert daemon.figures(A.site) == Figures(routed=3)
