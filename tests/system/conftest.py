from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from system.daemon import DaemonUnderTest, Project
from system.environments import DJANGO, environment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def django() -> Path:
    """The interpreter of a virtualenv with the newest Django that the daemon's Python runs."""
    return environment(DJANGO)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonUnderTest]:
    """A daemon that is not started yet, ended with everything below it when the test is over."""
    under_test = DaemonUnderTest(tmp_path)
    yield under_test
    under_test.stop()
    print(f"--- the daemon's log ---\n{under_test.log}")


@pytest.fixture
def blog(daemon: DaemonUnderTest, django: Path) -> Project:
    """A site "blog" with two workers and a health path, deployed and configured, not started."""
    project = Project(daemon.folder / "blog")
    project.deploy("one")
    daemon.site("blog", django, more='workers = 2\nhealth.path = "/healthz"')
    return project
