"""Two daemons behind a real HAProxy that asks their health: each is restarted and stopped, then one dies."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from tools import debian

from system.daemon import DaemonUnderTest, Project, free_port, wait_for
from system.load import Load
from system.proxy import config_of, running

KEPT, FRESH = 6, 2
"""Connections that are kept, and those that are new for each request; as many with GET as with POST."""
pytestmark = pytest.mark.skipif(
    debian.find("haproxy") is None, reason="haproxy is not installed (apt-get install haproxy)"
)


class Stage:
    """Two nodes and HAProxy, whose answers tell who gave them."""

    def __init__(self, folder: Path, django: Path) -> None:
        self.port = free_port()
        self.stats = folder / "stats.sock"
        self.nodes = [DaemonUnderTest(folder / name) for name in ("one", "two")]
        for node in self.nodes:
            node.folder.mkdir()
            urls = f"""
from django.http import HttpResponse
from django.urls import path
page = lambda request: HttpResponse({node.folder.name!r} if request.method == "GET" or len(request.body) == 1000 else "")
urlpatterns = [path("", page), path("healthz", lambda request: HttpResponse("well"))]
"""
            Project(node.folder / "blog").deploy(urls=urls)
            node.top = "stop_delay = 3600"
            node.site("blog", django, more=MORE)

    def haproxy(self) -> str:
        """The configuration of the first node with the second beside it, as the how-to says; health asked more often."""
        text = config_of(self.nodes[0].config, "haproxy", f"http://127.0.0.1:{self.port}")
        first, second = (f"127.0.0.1:{node.ports['blog']}" for node in self.nodes)
        lines = []
        for line in text.replace("inter 2s fastinter 500ms", "inter 500ms fastinter 200ms").splitlines():
            lines.append(line)
            if line == "global":
                lines.append(f"    stats socket {self.stats} level admin")
            elif line.startswith("    server blog "):
                other = line.replace("server blog ", "server blog2 ").replace(first, second)
                lines.append(other.replace("_read/blog", "_read/blog2"))
        return "\n".join(lines) + "\n"

    def state(self, node: DaemonUnderTest) -> str:
        """What HAProxy thinks of a node."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.stats))
            admin.sendall(b"show stat\n")
            with admin.makefile() as answer:
                rows = [line.rstrip("\n").split(",") for line in answer if "," in line]
        row = next(
            row for row in rows if row[:2] == ["blog_write", "blog" if node is self.nodes[0] else "blog2"]
        )
        return row[rows[0].index("status")].split()[0]

    @contextmanager
    def visited(self, *, may_fail: bool = False) -> Iterator[list[Load]]:
        """While GET and POST requests come, over kept connections and new ones."""
        with ExitStack() as cleanup:
            yield [
                cleanup.enter_context(
                    Load(
                        self.port,
                        connections=count,
                        pause_s=0.005,
                        keep_alive=kept,
                        post=post,
                        may_fail=may_fail,
                    )
                )
                for post in (None, b"x" * 1000)
                for kept, count in ((True, KEPT), (False, FRESH))
            ]

    def wait_until_it_serves(self, node: DaemonUnderTest, loads: list[Load]) -> None:
        for load in loads:
            served = served_by(node, load)
            wait_for(
                lambda load=load, served=served: served_by(node, load) > served,  # type: ignore[misc]
                f"a request to node {node.folder.name}",
            )


MORE = 'workers = 2\nhealth.path = "/healthz"\ntrusted_proxies = ["127.0.0.1"]'


def served_by(node: DaemonUnderTest, load: Load) -> int:
    return load.outcome.bodies.get(node.folder.name.encode(), 0)


@pytest.fixture
def stage(tmp_path: Path, django: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, django)
    try:
        for node in stage.nodes:
            node.start(wait=False)
        for node in stage.nodes:
            wait_for(lambda node=node: (node.runtime / "control.sock").exists(), "the daemon")  # type: ignore[misc]
            node.wait_state("blog", "serving")
        with running("haproxy", tmp_path / "haproxy", stage.haproxy(), stage.port):
            yield stage
    finally:
        for node in stage.nodes:
            node.stop()
            print(f"--- the log of node {node.folder.name} ---\n{node.log}")


def test_each_node_is_restarted_and_stopped_in_turn_and_no_request_fails(stage: Stage) -> None:
    with stage.visited() as loads:
        for node in stage.nodes:
            node.ask("restart", site="blog")
            stage.wait_until_it_serves(node, loads)

            node.signal(signal.SIGTERM)
            wait_for(lambda node=node: stage.state(node) == "DOWN", "HAProxy to take the node out")  # type: ignore[misc]
            assert node.get("blog", "/healthz") == (503, b"djsup is going to stop.\n")
            assert node.get("blog")[0] == 200, "all else is served until it stops"
            node.signal(signal.SIGTERM)  # asked again, it waits no longer
            node.wait_end()
            for load in loads:
                load.wait_for_requests(KEPT)
            node.start()
            wait_for(lambda node=node: stage.state(node) == "UP", "HAProxy to take the node in")  # type: ignore[misc]
            stage.wait_until_it_serves(node, loads)
    for load in loads:
        assert load.outcome.failures == [], load.outcome.summary()

    # One of them dies, daemon and workers at once: that costs the POST requests that it has, and nothing else.
    with stage.visited(may_fail=True) as loads:
        node = stage.nodes[0]
        stage.wait_until_it_serves(node, loads)
        for each in (psutil.Process(node.pid), *node.family()):
            os.kill(each.pid, signal.SIGKILL)
        node.wait_end()
        wait_for(lambda: stage.state(node) == "DOWN", "HAProxy to take the node out")
        for load in loads:
            load.wait_for_requests(KEPT * 2)
        lost_by_then = [len(load.outcome.failures) for load in loads]
        for load in loads:
            load.wait_for_requests(KEPT * 2)
        assert [len(load.outcome.failures) for load in loads] == lost_by_then
    gets, posts = loads[:2], loads[2:]
    for load in gets:
        assert load.outcome.failures == [], load.outcome.summary()
    lost = [failure for load in posts for failure in load.outcome.failures]
    assert all("502" in failure or "closed" in failure for failure in lost), lost
