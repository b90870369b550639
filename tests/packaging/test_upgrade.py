"""A daemon goes from one installed wheel to another, under load; and stays with the old one where that is of no use."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from system.conftest import blog, daemon, django  # noqa: F401 - fixtures
from system.daemon import wait_for
from system.load import Load
from wheels import another, install, make_environment

if TYPE_CHECKING:
    from system.daemon import DaemonUnderTest


@pytest.mark.usefixtures("blog")
def test_from_one_wheel_to_another_and_back_from_a_broken_one(
    daemon: DaemonUnderTest,  # noqa: F811 - the fixture
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    home = tmp_path / "venv"
    make_environment(home)
    install(home, wheel)
    daemon.command = (str(home / "bin/djsup"),)
    daemon.start()
    old = daemon.ask("ping")["version"]
    before = {worker["pid"] for worker in daemon.workers("blog")}
    with Load(daemon.ports["blog"], connections=4) as load:
        load.wait_for_requests(100)
        install(home, another(wheel, "97.0", {}))
        assert daemon.ask("ping")["version"] == old, "what pip does changes nothing that runs"
        said = daemon.done("upgrade").stdout
        assert f"djsup {old} → 97.0, 1 site, 2 workers kept" in said
        told = daemon.ask("ping")
        assert (told["pid"], told["version"]) == (daemon.pid, "97.0")
        assert {worker["pid"] for worker in daemon.workers("blog")} == before
        assert daemon.status("blog")["requests"] >= 100

        install(home, another(wheel, "98.0", {"djsup/core/fleet.py": "this is no Python\n"}))
        os.kill(daemon.pid, signal.SIGUSR2)
        refused = wait_for(
            lambda: [each for each in daemon.events() if each["kind"] == "upgrade-refused"], "the refusal"
        )
        assert "djsup 97.0 goes on" in refused[0]["text"]
        assert "SyntaxError" in refused[0]["text"]
        assert daemon.ask("ping")["version"] == "97.0"
        daemon.ask("reload", wait=True)
        load.wait_for_requests(100)
    assert load.outcome.closed == 0, load.outcome.summary()
    assert not before & {worker["pid"] for worker in daemon.workers("blog") if worker["state"] == "idle"}
