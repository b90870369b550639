"""The API does what its description says: random requests, right and wrong, to the real process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from web_ui.dashboard_process import TOKEN, dashboard_process
from web_ui.fake_daemon import fake_daemon_thread

ENDLESS = "/api/events"
"""A stream; other tests read it."""
EXAMPLES = 6
"""For each operation, of right requests and of wrong ones."""
TIMEOUT_S = 20.0
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
KNOWN_SITE = "blog"
NOT_HERE = [
    positive_data_acceptance,  # what is right alone may not fit together: from after to, too many points
    ignored_auth,  # a dozen wrong tokens slow the right one: test_auth tries every path without one
]


def check(operation: Any, mode: GenerationMode) -> None:
    """Ask for one operation again and again."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        if case.query:
            case.query.pop("follow", None)  # it has no end
        if mode is GenerationMode.POSITIVE and "name" in (case.path_parameters or {}):
            case.path_parameters["name"] = KNOWN_SITE
        case.call_and_validate(headers=HEADERS, timeout=TIMEOUT_S, excluded_checks=NOT_HERE)

    ask()


def test_every_answer_is_one_that_the_description_has(tmp_path: Path) -> None:
    with fake_daemon_thread(tmp_path / "control.sock", lively=False) as fake:
        for site in fake.daemon.sites.values():
            site.reload_s = 0.0
        with dashboard_process(tmp_path / "control.sock") as dashboard:
            schema = schemathesis.openapi.from_url(f"{dashboard.url}/api/openapi.json", headers=HEADERS)
            asked = set()
            for found in schema.get_all_operations():
                operation = found.ok()  # type: ignore[union-attr]  # a mistake in the description raises
                if operation.path == ENDLESS:
                    continue
                asked.add(operation.path)
                check(operation, GenerationMode.POSITIVE)
                with suppress(Unsatisfiable):  # what takes no parameter cannot be asked wrongly
                    check(operation, GenerationMode.NEGATIVE)
    assert len(asked) >= 15
