from __future__ import annotations

import datetime as dt
import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.playbook import BLOG, curtain_up
from djsup.core.events import ReloadAsked
from djsup.core.snapshot import (
    CurrentRequest,
    DaemonSnapshot,
    ProgramSnapshot,
    SiteSnapshot,
    Snapshot,
    from_json,
    to_json,
    utc_seconds,
    utc_text,
)

DAEMON = DaemonSnapshot(4711, "0.1.0", 1_767_323_045.0, 12.5, "/etc/djsup.toml", "http://127.0.0.1:9000")


def a_snapshot() -> Snapshot:
    play = curtain_up()
    play >> ReloadAsked(BLOG.name, "me") << ...
    site = play.site()
    busy = replace(site.workers[0], current=(CurrentRequest("GET", "/", 0.5),))
    programs = (
        ProgramSnapshot("celery", 0, 99, "running", 3.0, status_text="cooking"),
        ProgramSnapshot("report", 0, None, "waiting", 0.0, schedule="0 3 * * *", next_run_at=1_790_000_000.0),
    )
    return Snapshot(DAEMON, (replace(site, workers=(busy, *site.workers[1:]), programs=programs),))


def test_snapshot_survives_json() -> None:
    shown = a_snapshot()
    assert from_json(json.loads(json.dumps(to_json(shown)))) == shown


def test_json_has_the_keys_of_the_interface() -> None:
    raw = to_json(a_snapshot())
    assert set(raw) == {"daemon", "sites"}
    assert set(raw["daemon"]) == {"pid", "version", "started_at", "uptime_s", "config", "dashboard"}
    site = raw["sites"][0]
    assert set(site) >= {
        "name", "state", "generation", "listen", "hosts", "error", "requests", "requests_per_s", "latency_ms",
        "status", "memory_bytes", "cpu_percent", "last_reload", "workers", "programs",
        "notes", "next_try_s", "failures_in_row", "workers_asked", "python", "django", "templates",
        "tls_listen", "shared", "mount", "queue", "workers_min", "workers_max", "workers_why",
    }  # fmt: skip
    assert set(site) == {each.name for each in fields(SiteSnapshot)}
    assert set(site["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(site["status"]) == {"2xx", "3xx", "4xx", "5xx"}
    assert set(site["last_reload"]) >= {"generation", "result", "error", "started_at", "duration_s", "by"}
    assert set(site["workers"][0]) == {
        "slot", "pid", "generation", "state", "requests", "threads", "busy", "connections",
        "rss_bytes", "pss_bytes", "cpu_percent", "started_at", "uptime_s", "current",
    }  # fmt: skip
    assert set(site["workers"][0]["current"][0]) == {"method", "path", "age_s"}
    assert set(site["programs"][0]) >= {"name", "instance", "pid", "state", "uptime_s"}


def test_times_are_iso_8601_in_utc() -> None:
    assert to_json(a_snapshot())["daemon"]["started_at"] == "2026-01-02T03:04:05Z"


@given(st.integers(min_value=0, max_value=253_402_300_799))
def test_dates_are_those_of_the_calendar(seconds: int) -> None:
    there = dt.datetime.fromtimestamp(seconds, dt.UTC)
    assert utc_text(seconds + 0.9) == there.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert utc_seconds(utc_text(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-02", "2026-01-02T03:04Z"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        utc_seconds(text)


def test_unknown_key_is_refused() -> None:
    raw = to_json(a_snapshot())
    raw["sites"][0]["colour"] = "red"
    with pytest.raises(TypeError, match="colour"):
        from_json(raw)
