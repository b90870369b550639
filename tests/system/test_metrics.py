"""The figures for monitoring of a real daemon: never less than they were, and scraped by the real Prometheus."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from system.daemon import DaemonUnderTest, Project, free_port, wait_for


def counters(daemon: DaemonUnderTest) -> dict[str, float]:
    """Everything of the site that must never get less."""
    (site,) = daemon.ask("metrics")["sites"]
    plain = {key: site[key] for key in ("requests", "took_s", "bytes_out", "connections_accepted", "cpu_s")}
    words = {
        f"{key} {word}": site[key][word]
        for key in ("answers_by_class", "reloads", "worker_ends")
        for word in site[key]
    }
    return {**plain, **words, **{f"le {bucket}": count for bucket, count in enumerate(site["durations"])}}


def test_counters_go_on_when_workers_die_and_code_is_reloaded(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    assert counters(daemon)["requests"] == 0, "that each worker has asked itself is nobody's request"
    for _ in range(20):
        assert daemon.get("blog")[0] == 200
    daemon.get("blog", "/broken")
    # A worker writes down that a request has ended when its answer is sent already.
    wait_for(lambda: counters(daemon)["requests"] == 21, "every request to be counted")
    before = counters(daemon)
    assert (before["answers_by_class 2xx"], before["answers_by_class 5xx"]) == (20, 1)
    assert before["connections_accepted"] == 21
    assert before["bytes_out"] > 0
    assert before["took_s"] > 0
    assert before["cpu_s"] > 0

    killed = daemon.workers("blog")[0]["pid"]
    os.kill(killed, signal.SIGKILL)
    wait_for(
        lambda: (
            killed not in [each["pid"] for each in daemon.workers("blog")]
            and daemon.status("blog")["state"] == "serving"
        ),
        "another worker",
    )
    daemon.reload_well("blog")
    wait_for(lambda: len(daemon.workers("blog")) == 2, "the old workers to go")
    after = counters(daemon)
    assert {name: after[name] for name in before if after[name] < before[name]} == {}
    assert after["requests"] == 21
    assert after["worker_ends died"] == 1
    assert after["reloads done"] == 1


@pytest.fixture
def prometheus(daemon: DaemonUnderTest, tmp_path: Path) -> Iterator[int]:
    """Debian's Prometheus, which scrapes the daemon's dashboard each second; its port."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is missing: apt install prometheus")
    port = free_port()
    scrape = {
        "job_name": "djsup",
        "authorization": {"credentials_file": str(daemon.folder / "token")},
        "static_configs": [{"targets": [f"127.0.0.1:{daemon.dashboard_port}"]}],
    }
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
    (tmp_path / "prometheus.yml").write_text(json.dumps(settings))  # YAML has all of JSON
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log, cwd=tmp_path,
        )  # fmt: skip
    yield port
    process.terminate()
    process.wait(20)
    print(f"--- Prometheus' log ---\n{(tmp_path / 'prometheus.log').read_text()[-3000:]}")


@pytest.fixture
def dashboard(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.dashboard()
    daemon.start()


def ask(port: int, query: str) -> dict[str, float]:
    """What Prometheus answers to a query, by the label site."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"/api/v1/query?query={quote(query)}")
        answer: Any = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}  # it is only just starting
    finally:
        connection.close()
    return {each["metric"].get("site", ""): float(each["value"][1]) for each in answer["data"]["result"]}


def test_the_real_prometheus_scrapes_what_happened(
    daemon: DaemonUnderTest, dashboard: None, prometheus: int
) -> None:
    for _ in range(7):
        daemon.get("blog")
    assert wait_for(
        lambda: ask(prometheus, 'djsup_requests_total{code_class="2xx"} == 7'), "the requests"
    ) == {"blog": 7}
    assert ask(prometheus, "djsup_site_up") == {"blog": 1}
    assert ask(prometheus, "djsup_request_duration_seconds_count") == {"blog": 7}
    assert ask(prometheus, 'up{job="djsup"}') == {"": 1}
