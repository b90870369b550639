"""What Prometheus reads: names, types, labels of fixed lists only, and who may read it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from djsup.core.snapshot import CurrentRequest, WorkerState
from web_ui.fake_daemon import NAMES
from web_ui.world import BEARER, World, scene, world

DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "prometheus"
WORDS = {"site", "state", "code_class", "result", "reason", "le", "version"}


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: apt install prometheus")
    return found


async def samples(here: World) -> list[Sample]:
    async with here.http.get(f"{here.url}/metrics", headers=BEARER) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        families = list(text_string_to_metric_families(await answer.text()))  # type: ignore[no-untyped-call]
    return [sample for family in families for sample in family.samples]


def value(found: list[Sample], name: str, **labels: str) -> float:
    (one,) = [each for each in found if each.name == name and each.labels == labels]
    return one.value


@scene
async def test_metrics_are_openmetrics_and_tell_what_the_status_tells(here: World) -> None:
    site = here.daemon.sites["blog"]
    site.status = [60, 0, 6, 3]
    site.workers[0].state = WorkerState.BUSY
    site.workers[0].current = (CurrentRequest("GET", "/secret/path", 12.5),)
    here.daemon.happen("reload-rolled-back", "blog", "no")
    found = await samples(here)
    assert value(found, "djsup_site_up", site="blog") == 1
    assert value(found, "djsup_site_state", site="blog", state="serving") == 1
    assert value(found, "djsup_site_state", site="blog", state="failed") == 0
    assert value(found, "djsup_requests_total", site="blog", code_class="5xx") == 3
    assert value(found, "djsup_workers", site="blog", state="busy") == 1
    assert value(found, "djsup_threads_busy", site="blog") == 1
    assert value(found, "djsup_oldest_request_age_seconds", site="blog") == 12.5
    assert value(found, "djsup_reloads_total", site="blog", result="rolled-back") == 1
    assert value(found, "djsup_request_duration_seconds_bucket", site="blog", le="0.005") == 34
    assert value(found, "djsup_request_duration_seconds_bucket", site="blog", le="0.05") == 57
    assert value(found, "djsup_request_duration_seconds_count", site="blog") == 62


@scene
async def test_labels_are_sites_and_words_of_fixed_lists_only(here: World) -> None:
    for site in here.daemon.sites.values():
        for number, worker in enumerate(site.workers):
            worker.current = tuple(CurrentRequest("GET", f"/{number}/{each}", 1.0) for each in range(50))
        here.daemon.happen(f"kind-{site.name}", site.name, "something")
    found = await samples(here)
    assert {name for sample in found for name in sample.labels} == WORDS
    assert len({tuple(sample.labels.items()) for sample in found if sample.labels.get("site") == "blog"}) < 60
    assert not any("/" in label for sample in found for label in sample.labels.values())


@scene
async def test_the_older_format_is_given_to_who_asks_for_it_alone(here: World) -> None:
    async with here.http.get(f"{here.url}/metrics", headers={**BEARER, "Accept": "text/plain"}) as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
    assert "# EOF" not in text
    checked = await asyncio.to_thread(
        subprocess.run, [promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_metrics_need_the_token_unless_the_configuration_says_otherwise(tmp_path: Path) -> None:
    async def status(*, metrics_public: bool) -> tuple[int, int]:
        folder = tmp_path / str(metrics_public)
        folder.mkdir()
        async with world(folder, metrics_public=metrics_public) as here:
            async with here.http.get(f"{here.url}/metrics") as metrics:
                pass
            async with here.http.get(f"{here.url}/api/status") as api:
                pass
            return metrics.status, api.status

    assert asyncio.run(status(metrics_public=False)) == (401, 401)
    assert asyncio.run(status(metrics_public=True)) == (200, 401)


def test_a_hundred_sites_are_few_enough_series(tmp_path: Path) -> None:
    async def count() -> int:
        async with world(tmp_path, sites=100) as here:
            return len(await samples(here))

    assert len(NAMES) < 100
    assert asyncio.run(count()) < 7_000


def check_rules(file: Path) -> None:
    done = subprocess.run(
        [promtool(), "check", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alert_rules_of_the_documentation_are_valid() -> None:
    check_rules(DOCS / "alerts.yml")


def test_the_grafana_dashboard_asks_valid_questions(tmp_path: Path) -> None:
    panels = json.loads((DOCS / "grafana.json").read_text())["panels"]
    asked = [
        target["expr"].replace("$__rate_interval", "5m") for panel in panels for target in panel["targets"]
    ]
    rules = [{"record": f"asked:{number}", "expr": expr} for number, expr in enumerate(asked)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "asked", "rules": rules}]}))
    check_rules(tmp_path / "rules.yml")


@scene
async def test_documentation_names_the_metrics_that_there_are(here: World) -> None:
    there = {
        sample.name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        for sample in await samples(here)
    }
    page = DOCS.with_suffix(".md").read_text()
    assert set(re.findall(r"\bdjsup_\w+", page)) == there
    for name in ("alerts.yml", "grafana.json"):
        named = set(re.findall(r"\bdjsup_\w+", (DOCS / name).read_text()))
        assert {each.removesuffix("_bucket") for each in named} <= there
