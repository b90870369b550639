"""What a real daemon remembers: figures second by second, deploys and events, also of the daemon before it."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from typing import Any

from system.daemon import DaemonUnderTest, Project, wait_for
from system.test_dashboard import ask, dashboard_process

FIGURES = {
    "requests_per_s", "errors_per_s", "client_errors_per_s", "p50_ms", "p95_ms", "p99_ms", "busy", "threads", "workers",
    "connections", "queue", "memory_bytes", "private_bytes", "cpu_percent", "descriptors", "os_threads",
}  # fmt: skip


def shown(table: dict[str, Any], name: str) -> list[float]:
    return [figure for figure in table[name] if figure is not None]


def test_traffic_errors_and_memory_are_in_the_series_within_seconds(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    daemon.start()
    begin = time.time()
    for _ in range(30):
        assert daemon.get("blog")[0] == 200
    assert daemon.get("blog", "/broken")[0] == 500
    assert daemon.get("blog", "/missing")[0] == 404

    def counted() -> Any:
        table = daemon.ask("series", site="blog", **{"from": begin - 5, "to": begin + 100, "step": 1})
        enough = sum(shown(table, "requests_per_s")) >= 30 and shown(table, "client_errors_per_s")
        return table if enough and sum(shown(table, "client_errors_per_s")) > 0.5 else None

    table = wait_for(counted, "the requests in the series")
    assert set(table) == FIGURES | {"site", "step_s", "from", "to", "t"}
    assert {len(table[name]) for name in FIGURES | {"t"}} == {len(table["t"])}
    assert sum(shown(table, "errors_per_s")) > 0.5
    assert max(shown(table, "workers")) == 2
    assert max(shown(table, "memory_bytes")) > 10 << 20
    assert max(shown(table, "descriptors")) > 5
    assert 0.05 < max(shown(table, "p99_ms")) < 30_000
    worker = daemon.ask("worker-series", site="blog", slot=0)
    assert worker["pid"] == next(each["pid"] for each in daemon.workers("blog") if each["slot"] == 0)
    assert max(shown(worker, "memory_bytes")) > 5 << 20
    assert daemon.get("blog", "/slow?s=0.6")[0] == 200
    noted = wait_for(
        lambda: found if (found := daemon.ask("requests", site="blog"))["slowest"] else None, "slow"
    )
    (failed,), (slowest,) = noted["failed"], noted["slowest"]
    assert (failed["method"], failed["path"], failed["status"]) == ("GET", "/broken", 500)
    assert (slowest["path"], slowest["status"]) == ("/slow", 200)
    assert slowest["duration_ms"] > 600
    sparks = daemon.ask("sparks", minutes=15)
    assert (
        len(sparks["sites"]["blog"]["requests_per_s"]) == (sparks["to"] - sparks["from"]) // sparks["step_s"]
    )


def test_minutes_deploys_and_events_outlive_the_daemon(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.start()
    begin = int(time.time()) // 60 * 60
    for _ in range(20):
        daemon.get("blog")
    blog.deploy("two")
    daemon.done("reload", "blog")
    blog.deploy("three", urls="import nothing_of_this_name")
    assert daemon.run("reload", "blog").status == 1
    wait_for(lambda: sum(shown(daemon.ask("series", site="blog"), "requests_per_s")) >= 20, "a sample")
    (events, deploys) = daemon.events(), daemon.ask("deploys", site="blog")["deploys"]
    daemon.done("stop")
    assert daemon.wait_end() == 0
    blog.deploy("four")
    daemon.start()
    table = daemon.ask("series", site="blog", **{"from": begin, "to": begin + 600, "step": 60})
    assert sum(shown(table, "requests_per_s")) * 60 >= 15
    assert shown(table, "p95_ms")
    again = daemon.ask("deploys", site="blog")
    assert (again["deploys"], again["more"]) == (deploys, False)
    broken, done = deploys
    assert (broken["result"], done["result"], done["error"]) == ("rolled-back", "done", None)
    assert "nothing_of_this_name" in broken["error"]
    assert "Traceback" in broken["traceback"]
    assert "(cli)" in broken["by"]
    assert 0 < done["duration_s"] < 60
    earlier = [each["id"] for each in events]
    assert [each["id"] for each in daemon.events()][: len(earlier)] == earlier


def test_a_daemon_without_a_disk_remembers_what_it_has_seen_itself(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    (daemon.runtime / "events.sqlite3").mkdir(parents=True)
    daemon.runtime.chmod(0o700)
    daemon.start()
    daemon.get("blog")
    wait_for(lambda: shown(daemon.ask("series", site="blog", step=60), "workers"), "a minute")
    assert any(event["kind"] == "history-trouble" for event in daemon.events())
    assert daemon.get("blog")[0] == 200


def test_a_token_is_changed_without_a_restart_and_one_may_only_look(
    daemon: DaemonUnderTest, blog: Project
) -> None:
    secret = "hunter2-hunter2"
    daemon.sites["blog"] += f'env = {{ API_KEY = "{secret}" }}\n'
    port, read_token = daemon.dashboard(), daemon.folder / "read-token"
    config = daemon.config.read_text()
    daemon.config.write_text(config.replace("[dashboard]", f'[dashboard]\nread_token_file = "{read_token}"'))
    daemon.start()
    wait_for(lambda: ask(daemon, "GET", "/healthz", token=False)[0] == 200, "the dashboard")

    def status(token: str, method: str = "GET", path: str = "/api/status") -> int:
        headers = {"Authorization": f"Bearer {token}", "X-Djsup": "1"}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, path, headers=headers)
            return connection.getresponse().status

    old, looking = (daemon.folder / "token").read_text().strip(), read_token.read_text().strip()
    assert read_token.stat().st_mode & 0o777 == 0o600
    assert (status(old), status(looking)) == (200, 200)
    assert status(looking, "POST", "/api/sites/blog/reload") == 403
    process = dashboard_process(daemon)
    (daemon.folder / "token").write_text("a-new-token\n")
    wait_for(lambda: status(old) == 401, "the old token to be of no use")
    assert status("a-new-token") == 200
    assert status("a-new-token", "POST", "/api/sites/blog/reload") == 200
    assert dashboard_process(daemon) == process
    shown = (
        json.dumps([daemon.ask("daemon"), daemon.events(), daemon.status(), daemon.ask("metrics")])
        + daemon.log
    )
    assert "API_KEY" in shown
    assert not any(each in shown for each in (secret, old, looking, "a-new-token"))


def test_series_and_deploys_come_through_the_dashboard(daemon: DaemonUnderTest, blog: Project) -> None:
    daemon.dashboard()
    daemon.start()
    wait_for(lambda: ask(daemon, "GET", "/healthz", token=False)[0] == 200, "the dashboard")
    wait_for(lambda: shown(ask(daemon, "GET", "/api/sites/blog/series")[1], "workers"), "a sample")
    assert ask(daemon, "GET", "/api/series?minutes=5")[1]["sites"]["blog"]["requests_per_s"]
    assert ask(daemon, "GET", "/api/sites/blog/deploys") == (200, {"deploys": [], "more": False})
    assert ask(daemon, "GET", "/api/sites/blog/series?from=0&step=1")[0] == 422
    newest = ask(daemon, "GET", "/api/history?limit=1000")[1]["events"]
    before = ask(daemon, "GET", f"/api/history?limit=2&before={newest[-1]['id']}")[1]["events"]
    assert before == newest[-3:-1]
