"""``djsup start``: what it hands to the daemon, and a real daemon that detaches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from djsup import daemon as daemon_module
from djsup.cli.start import address_to_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from djsup.core.model import Settings


@pytest.fixture
def configure(tmp_path: Path, application: Callable[..., Path], free_port: int) -> Callable[[str], Path]:
    """Write a configuration with one site that serves, and more."""

    def write(more: str = "") -> Path:
        application("good")
        file = tmp_path / "djsup.toml"
        file.write_text(
            f'runtime_dir = "run"\norphan_grace = 0\n[sites.good]\ndirectory = "good"\nwsgi = "app:app"\n'
            f'listen = ["127.0.0.1:{free_port}"]\n{more}\n'
        )
        return file

    return write


def test_daemon_gets_settings_warnings_and_descriptor(
    configure: Callable[[str], Path],
    djsup: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    given: list[Any] = []

    def run(settings: Settings, warnings: list[str], *, ready_fd: int | None) -> int:
        given.extend((settings, warnings, ready_fd))
        return 5

    monkeypatch.setattr(daemon_module, "run", run)
    file = configure("")
    result = djsup("start", "-c", file, "--runtime-dir", tmp_path / "elsewhere", "--ready-fd", "7")
    assert result.exit_code == 5
    settings, warnings, ready_fd = given
    assert settings.runtime_dir == str(tmp_path / "elsewhere")
    assert settings.sites[0].name == "good"
    assert any("sites.good.user: is not set" in warning for warning in warnings)
    assert ready_fd == 7


def test_mistakes_are_all_printed_and_exit_2(
    configure: Callable[[str], Path], djsup: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "run", lambda *_args, **_kwargs: pytest.fail("started"))
    file = configure("threads = 0\nworkers = 0")
    result = djsup("start", "-c", file)
    assert result.exit_code == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()[:2]] == [
        "sites.good.threads",
        "sites.good.workers",
    ]
    assert result.stderr.endswith(f"djsup: 2 mistakes in the configuration {file}\n")


def test_no_configuration_is_exit_2(djsup: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djsup.config.find.SYSTEM", Path("/nowhere"))
    result = djsup("start")
    assert result.exit_code == 2
    assert "name a file with -c FILE" in result.stderr


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80/"),
        ("0.0.0.0:80", "http://127.0.0.1:80/"),
        ("[::]:80", "http://[::1]:80/"),
        ("unix:/x", "unix:/x"),
    ],
)
def test_address_is_shown_as_a_browser_opens_it(address: str, expected: str) -> None:
    assert address_to_open(address) == expected
    if expected.startswith("http://"):
        assert address_to_open(address, "https") == expected.replace("http", "https")


# --- a real daemon -----------------------------------------------------------------------------


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "djsup", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture
def stopping(tmp_path: Path) -> Iterator[None]:
    """Whatever daemon the test leaves running is stopped, also one that cannot be told yet, for it has only just begun."""
    yield
    end = time.monotonic() + 60
    while any(
        f"{tmp_path}/" in word
        for each in psutil.process_iter(["cmdline"])
        for word in each.info["cmdline"] or ()
    ):
        assert time.monotonic() < end
        run("stop", "--now", "--runtime-dir", tmp_path / "run")


@pytest.mark.system
@pytest.mark.usefixtures("stopping")
def test_detached_daemon_serves_when_start_returns_and_is_gone_when_stop_returns(
    configure: Callable[[str], Path], tmp_path: Path, free_port: int
) -> None:
    file = configure("")
    started = run("start", "-d", "-c", file)
    assert started.returncode == 0, started.stderr + (tmp_path / "run" / "daemon.log").read_text()
    assert f"good: serving on http://127.0.0.1:{free_port}/" in started.stdout
    with socket.create_connection(("127.0.0.1", free_port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    status = json.loads(run("status", "--json", "-c", file).stdout)
    pid = status["daemon"]["pid"]
    assert os.getsid(pid) == pid
    assert run("status", "-c", file).stdout.splitlines()[2].startswith("good  serving")

    again = run("start", "-d", "-c", file)
    assert again.returncode == 1
    assert f"a daemon runs already: pid {pid} has {tmp_path}/run" in again.stderr
    assert run("start", "-c", file).returncode == 1

    stopped = run("stop", "-c", file)
    assert stopped.returncode == 0
    assert stopped.stdout.startswith(f"stopped pid {pid} in ")
    with suppress(psutil.NoSuchProcess):
        # Whoever adopted it may not have reaped it yet.
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert run("status", "-c", file).returncode == 3


@pytest.mark.system
@pytest.mark.usefixtures("stopping")
def test_detached_start_with_a_site_that_fails_exits_1_with_its_reason_and_runs_on(
    configure: Callable[[str], Path], application: Callable[..., Path], tmp_path: Path
) -> None:
    application("bad", "import nothing_of_this_name")
    file = configure('[sites.bad]\ndirectory = "bad"\nwsgi = "app:app"\nlisten = ["unix:bad.sock"]')
    started = run("start", "-d", "-c", file)
    assert started.returncode == 1
    assert "good: serving on " in started.stdout
    assert (
        "bad: does not serve: ModuleNotFoundError: No module named 'nothing_of_this_name'" in started.stdout
    )
    assert run("status", "-c", file).returncode == 0


@pytest.mark.system
@pytest.mark.usefixtures("stopping")
def test_detached_start_waits_no_longer_than_told(
    configure: Callable[[str], Path], application: Callable[..., Path]
) -> None:
    application("slow", "import time; time.sleep(600)")
    file = configure('[sites.slow]\ndirectory = "slow"\nwsgi = "app:app"\nlisten = ["unix:slow.sock"]')
    started = run("start", "-d", "--wait", "1.5", "-c", file)
    assert started.returncode == 4
    assert "not every site serves after 1.5s; djsup status tells which" in started.stderr


@pytest.mark.system
def test_detached_daemon_that_ends_at_once_is_reported_with_what_it_said(
    configure: Callable[[str], Path], tmp_path: Path
) -> None:
    file = configure("")
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run").chmod(0o777)
    started = run("start", "-d", "-c", file)
    assert started.returncode == 1
    assert "others may write to it" in started.stderr
