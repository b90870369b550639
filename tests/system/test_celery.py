"""Celery for real: a worker and beat as programs of a site, with a broker that is a folder."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from system.daemon import DaemonUnderTest, Project, wait_for
from system.environments import DJANGO, environment

CELERY = """
import os
from pathlib import Path
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
here = Path(__file__).parent.parent / "broker"
for folder in ("messages", "control"):
    (here / folder).mkdir(parents=True, exist_ok=True)
app = Celery("project", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(here / "messages"), "data_folder_out": str(here / "messages"),
    "control_folder": str(here / "control"),
}
app.conf.beat_schedule = {"tick": {"task": "project.celery.tick", "schedule": 0.5}}

@app.task
def tick():
    with open(here / "ticks", "a") as file:
        file.write("%d %d\\\\n" % (os.getpid(), os.getppid()))
"""
PROGRAMS = """
[sites.blog.programs.celery]
command = "celery -A project worker --concurrency 1 --loglevel INFO"
stop_timeout = 20
[sites.blog.programs.beat]
command = "celery -A project beat --schedule broker/beat"
"""


@pytest.fixture(scope="module")
def with_celery() -> Path:
    return environment(DJANGO, "celery>=5.4,<6")


def test_celery_works_off_what_beat_sends_follows_a_reload_and_leaves_nothing_behind(
    daemon: DaemonUnderTest, with_celery: Path
) -> None:
    project = Project(daemon.folder / "blog")
    project.deploy()
    (project.directory / "project" / "celery.py").write_text(CELERY.replace("\\\\", "\\"))
    daemon.site("blog", with_celery, more=PROGRAMS)
    daemon.start()

    def worker_of_the_last_tick(but: int = 0) -> int:
        """The process whose child did the last task."""

        def look() -> int | None:
            ticks = project.directory / "broker" / "ticks"
            lines = ticks.read_text().splitlines() if ticks.exists() else []
            worker = int(lines[-1].split()[1]) if lines else but
            return worker if worker != but else None

        return wait_for(look, "a task to be done")

    def pid(name: str) -> object:
        return next(each["pid"] for each in daemon.status("blog")["programs"] if each["name"] == name)

    worker = worker_of_the_last_tick()
    assert worker == pid("celery")
    daemon.reload_well("blog")
    successor = worker_of_the_last_tick(but=worker)
    assert successor == pid("celery")
    stopped = [each["text"] for each in daemon.events("blog") if each["kind"] == "program-stopped"]
    assert any(
        each.startswith(
            f'site "blog": program celery/0 (pid {worker}) has ended as told: exited with status 0'
        )
        for each in stopped
    )

    family = daemon.family()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end() == 0
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert "program-died" not in daemon.log
