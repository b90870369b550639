"""Two daemons behind a real HAProxy that asks their health: one after the other is restarted, and nobody notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import debian

from system.daemon import DaemonUnderTest, Project, free_port, wait_for
from system.load import Load
from system.proxy import config_of, running

CONNECTIONS = 16


@pytest.mark.skipif(
    debian.find("haproxy") is None, reason="haproxy is not installed (apt-get install haproxy)"
)
def test_nodes_are_stopped_and_started_one_by_one_behind_haproxy_and_no_request_fails(
    tmp_path: Path, django: Path
) -> None:
    nodes = [DaemonUnderTest(tmp_path / name) for name in ("one", "two")]
    port = free_port()
    try:
        for node in nodes:
            node.folder.mkdir()
            Project(node.folder / "blog").deploy(node.folder.name)
            more = 'workers = 2\nhealth.path = "/healthz"\ntrusted_proxies = ["127.0.0.1"]'
            node.site("blog", django, more=more)
            node.start()
        text = both(config_of(nodes[0], "haproxy", "--listen", f"http://127.0.0.1:{port}"), nodes)
        with (
            running("haproxy", tmp_path / "haproxy", text, port),
            Load(port, connections=CONNECTIONS) as load,
            Load(port, connections=2, keep_alive=False) as fresh,
        ):
            for node, other in (nodes, reversed(nodes)):
                node.done("stop")
                node.wait_end()
                load.wait_for_requests(CONNECTIONS * 4)
                fresh.wait_for_requests(4)
                node.start()
                served = load.outcome.bodies.get(node.folder.name.encode(), 0)
                wait_for(
                    lambda node=node, served=served: (  # type: ignore[misc]
                        load.outcome.bodies.get(node.folder.name.encode(), 0) > served
                    ),
                    "HAProxy to send requests to the node again",
                )
                assert other.process is not None
                assert other.process.poll() is None
    finally:
        for node in nodes:
            node.stop()
            print(f"--- the log of node {node.folder.name} ---\n{node.log}")
    assert load.outcome.failures == [], load.outcome.summary()
    assert fresh.outcome.failures == [], fresh.outcome.summary()
    assert set(load.outcome.bodies) == {b"one", b"two"}


def both(text: str, nodes: list[DaemonUnderTest]) -> str:
    """The configuration of the first node with the second beside it, as the how-to says."""
    first, second = (f"127.0.0.1:{node.ports['blog']}" for node in nodes)
    lines = []
    for line in text.splitlines():
        lines.append(line)
        if line.startswith("    server blog "):
            lines.append(
                line.replace("server blog ", "server blog2 ")
                .replace(first, second)
                .replace("_read/blog", "_read/blog2")
            )
    return "\n".join(lines) + "\n"
