from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import system.daemon
from cli.fake_daemon import FakeDaemon
from djsup.cli import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"hi"]
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path / "run")
    yield fake
    fake.stop()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a configuration, to run in."""
    monkeypatch.delenv("DJSUP_CONFIG", raising=False)
    folder = tmp_path / "nowhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def djsup(nowhere: Path) -> Callable[..., Result]:
    """Run the command line in this process."""

    def run(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="djsup")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def free_port() -> int:
    """A port of loopback on which nobody listens."""
    return system.daemon.free_port()


@pytest.fixture
def application(tmp_path: Path) -> Callable[..., Path]:
    """Write a site's folder with an ``app.py`` of some text; ``app:app`` is served."""

    def write(name: str, text: str = APPLICATION) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "app.py").write_text(text)
        return folder

    return write
