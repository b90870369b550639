"""What may be seen from afar has no secret in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from djsup.core.model import (
    Address,
    AddressKind,
    DashboardSettings,
    Limits,
    ProgramSettings,
    Settings,
    SiteName,
    SiteSettings,
)
from djsup.core.snapshot import DaemonSnapshot, Snapshot
from djsup.disclosure import disclose, shown
from djsup.shell.samples import Meter
from djsup.shell.sockets import Listeners

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("celery -A blog worker --concurrency 2", "celery -A blog worker --concurrency 2"),
        (f"celery -b redis://:{SECRET}@cache/0", "celery -b redis://***@cache/0"),
        (f"mail --password={SECRET} --to a", "mail --password=*** --to a"),
        (f"mail --api-key {SECRET}", "mail --api-key ***"),
        (f"DB_PASSWORD={SECRET} run", "DB_PASSWORD=*** run"),
        (f"run secret: {SECRET}", "run secret: ***"),
        ("/srv/blog/.venv/bin/python", "/srv/blog/.venv/bin/python"),
    ],
)
def test_what_looks_like_a_password_is_hidden_in_a_text(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_the_configuration_is_shown_whole_but_for_its_secrets() -> None:
    address = Address(AddressKind.TCP, "127.0.0.1", 8001)
    program = ProgramSettings("celery", f"celery -b amqp://me:{SECRET}@mq", env=(("KEY", SECRET),))
    site = SiteSettings(
        SiteName("blog"), "/srv/blog", "/usr/bin/python3", (address,), env=(("SECRET_KEY", SECRET), ("DEBUG", "0")),
        programs=(program,), limits=Limits(request_timeout_s=7.0),
    )  # fmt: skip
    dashboard = DashboardSettings(Address(AddressKind.TCP, "127.0.0.1", 9000), "/etc/djsup/token")
    settings = Settings("/etc/djsup/djsup.toml", "/run/djsup", (site,), dashboard)
    picture = Snapshot(DaemonSnapshot(1, "0.1.0", 1.7e9, 5.0, settings.file, None), ())
    listeners = Listeners()
    try:
        answer = disclose(picture, settings, listeners, Meter(), Path("/run/djsup"))  # type: ignore[arg-type]
    finally:
        listeners.close_all()
    text = json.dumps(answer)
    assert SECRET not in text
    blog = answer["configuration"]["sites"][0]
    assert blog["env"] == {"SECRET_KEY": "***", "DEBUG": "***"}
    assert (blog["limits"]["request_timeout_s"], blog["listen"]) == (7.0, ["127.0.0.1:8001"])
    assert answer["listeners"] == [
        {"address": "127.0.0.1:8001", "bound": False, "waiting": 0, "used_by": ["blog"]},
        {"address": "127.0.0.1:9000", "bound": False, "waiting": 0, "used_by": ["dashboard"]},
    ]
    assert answer["memory_bytes"] > 0
    assert {"djsup", "Python", "Linux", "SQLite"} <= set(answer["versions"])
