from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from system.daemon import DaemonUnderTest, Project
from system.environments import DJANGO, environment, own_version


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def django() -> Path:
    """The interpreter of a virtualenv with the newest Django that the daemon's Python runs."""
    return environment(DJANGO)


@pytest.fixture(scope="session")
def python_for_all() -> Path:
    """An interpreter that every user may run, of the daemon's version, so that httptools is lent to it."""
    found = Path("/usr/bin/python3")
    if not found.exists():
        pytest.skip("no /usr/bin/python3 that another user may run")
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run([found, "-c", question], capture_output=True, text=True, check=True).stdout
    if version.strip() != own_version():
        pytest.skip(f"/usr/bin/python3 is {version}, httptools is lent for {own_version()}")
    return found


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonUnderTest]:
    """A daemon that is not started yet, ended with everything below it when the test is over."""
    yield from _daemon(tmp_path)


@pytest.fixture
def daemon_for_all() -> Iterator[DaemonUnderTest]:
    """As ``daemon``, in a folder that every user may enter: pytest closes its own whenever it is started."""
    folder = Path(tempfile.mkdtemp(prefix="djsup-for-all-"))
    folder.chmod(0o755)
    yield from _daemon(folder)
    shutil.rmtree(folder)


def _daemon(folder: Path) -> Iterator[DaemonUnderTest]:
    under_test = DaemonUnderTest(folder)
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
