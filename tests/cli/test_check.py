"""``djsup check`` with real interpreters, real imports and real addresses."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from cli.fake_daemon import FakeDaemon


@pytest.fixture(autouse=True)
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files, to see what is left in it."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def check(
    tmp_path: Path, djsup: Callable[..., Result], application: Callable[..., Path], free_port: int
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Check one site of this text; exit status and the answer in JSON."""

    def run(text: str, more: str = "", directory: str = "site") -> tuple[int, dict[str, Any]]:
        application("site", text)
        (tmp_path / "djsup.toml").write_text(
            f'runtime_dir = "run"\n[sites.x]\ndirectory = "{directory}"\nwsgi = "app:app"\n'
            f'listen = ["127.0.0.1:{free_port}"]\n{more}\n'
        )
        result = djsup("check", "--json", "-c", tmp_path / "djsup.toml")
        return result.exit_code, json.loads(result.stdout)

    return run


def test_site_that_loads_is_reported_with_its_versions(
    check: Callable[..., tuple[int, dict[str, Any]]], own_tmp: Path
) -> None:
    status, answer = check("def app(environ, start_response): ...")
    assert status == 0
    (site,) = answer["sites"]
    version = ".".join(map(str, sys.version_info[:3]))
    assert (site["error"], site["python"], site["django"], site["wsgi"]) == (None, version, "", "app:app")
    assert site["interpreter"] == sys.executable
    assert answer["ok"]
    assert list(own_tmp.iterdir()) == []


def test_import_that_fails_is_reported_with_its_traceback(
    check: Callable[..., tuple[int, dict[str, Any]]],
) -> None:
    status, answer = check("import nothing_of_this_name")
    assert status == 1
    assert "No module named 'nothing_of_this_name'" in answer["sites"][0]["error"]
    assert "Traceback" in answer["sites"][0]["details"]
    assert 'app.py", line 1' in answer["sites"][0]["details"]


def test_import_that_hangs_is_given_up_and_its_processes_are_ended(
    check: Callable[..., tuple[int, dict[str, Any]]], tmp_path: Path
) -> None:
    text = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "print('still here')\ntime.sleep(600)\n"
    )
    status, answer = check(text, "limits.boot_timeout = 2")
    assert status == 1
    assert answer["sites"][0]["error"] == "did not load within boot_timeout (2 s)"
    assert answer["sites"][0]["details"] == "still here"
    with suppress(psutil.NoSuchProcess):
        # Whoever adopted it may not have reaped it yet.
        assert psutil.Process(int((tmp_path / "pid").read_text())).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("import os; os._exit(7)", "exit status 7"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
    ],
)
def test_process_that_dies_is_reported_with_how(
    check: Callable[..., tuple[int, dict[str, Any]]], text: str, how: str
) -> None:
    status, answer = check(text)
    assert status == 1
    assert answer["sites"][0]["error"] == f"ended before it had loaded ({how})"


def test_interpreter_that_is_none_is_reported(
    check: Callable[..., tuple[int, dict[str, Any]]], tmp_path: Path
) -> None:
    (tmp_path / "python").write_text("#!/nowhere/python\n")
    (tmp_path / "python").chmod(0o755)
    status, answer = check("", 'python = "python"')
    assert status == 1
    assert "cannot run" in answer["sites"][0]["error"]


def test_program_that_is_not_there_is_reported(check: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    programs = '[sites.x.programs.a]\ncommand = "sh -c true"\n[sites.x.programs.b]\ncommand = "no-such-thing"'
    status, answer = check("def app(environ, start_response): ...", programs)
    assert status == 1
    assert "program b cannot be run: there is no program 'no-such-thing'" in answer["sites"][0]["error"]


def test_environment_of_the_site_is_its_own(
    check: Callable[..., tuple[int, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_DAEMON", "1")
    text = (
        "import os\nassert os.environ['MINE'] == 'x'\nassert 'OF_THE_DAEMON' not in os.environ\napp = print\n"
    )
    status, answer = check(text, 'env = { MINE = "x" }')
    assert (status, answer["sites"][0]["error"]) == (0, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a site as another user")
def test_site_is_loaded_as_its_user(check: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as open_to_all:  # pytest's own folders are root's
        folder = Path(open_to_all)
        folder.chmod(0o777)
        (folder / "python").write_text(f"#!/bin/sh\nid -un > {folder}/user\n")
        (folder / "python").chmod(0o755)
        (folder / "site").mkdir(mode=0o755)
        check("", f'user = "nobody"\npython = "{folder}/python"', directory=f"{folder}/site")
        assert (folder / "user").read_text() == "nobody\n"


def test_reason_not_to_fork_is_told(check: Callable[..., tuple[int, dict[str, Any]]]) -> None:
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\napp = print\n"
    status, answer = check(text)
    assert status == 0
    assert "thread" in answer["sites"][0]["unsafe"][0]


def test_address_that_is_taken_is_reported(
    check: Callable[..., tuple[int, dict[str, Any]]], free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        status, answer = check("app = print")
    assert status == 1
    assert "in use" in answer["addresses"][0]["error"]
    assert answer["sites"][0]["error"] is None


def test_address_is_free_again_after_the_check(
    check: Callable[..., tuple[int, dict[str, Any]]], free_port: int
) -> None:
    assert check("app = print")[0] == 0
    socket.create_server(("127.0.0.1", free_port)).close()


def test_address_of_the_running_daemon_is_left_alone(
    check: Callable[..., tuple[int, dict[str, Any]]], daemon: FakeDaemon, free_port: int
) -> None:
    sites = [{"name": "x", "listen": [f"127.0.0.1:{free_port}"]}]
    daemon.answer("status", {"result": {"daemon": {"dashboard": None}, "sites": sites}})
    with socket.create_server(("127.0.0.1", free_port)):
        status, answer = check("app = print")
    assert status == 0
    assert answer["addresses"] == [
        {"address": f"127.0.0.1:{free_port}", "owner": "x", "error": None, "held": True}
    ]


def test_mistakes_in_the_configuration_are_exit_2_and_nothing_is_loaded(
    check: Callable[..., tuple[int, dict[str, Any]]], tmp_path: Path
) -> None:
    status, answer = check(f"open({str(tmp_path / 'loaded')!r}, 'w')", "threads = 0\nworkers = 0")
    assert status == 2
    assert [problem["key"] for problem in answer["problems"]] == ["sites.x.threads", "sites.x.workers"]
    assert not (tmp_path / "loaded").exists()


def test_table_for_people_names_what_failed(
    djsup: Callable[..., Result], tmp_path: Path, application: Callable[..., Path], free_port: int
) -> None:
    application("good")
    application("bad", "import nothing_of_this_name")
    (tmp_path / "djsup.toml").write_text(
        f'runtime_dir = "run"\n[sites.good]\ndirectory = "good"\nwsgi = "app:app"\n'
        f'listen = ["127.0.0.1:{free_port}"]\n[sites.bad]\ndirectory = "bad"\nwsgi = "app:app"\n'
        'listen = ["unix:bad.sock"]\nthreads = 1\n[log]\naccess = "json"\n'
    )
    result = djsup("check", "-c", tmp_path / "djsup.toml")
    assert result.exit_code == 1
    header, good, bad = result.stdout.splitlines()
    assert header.split() == ["SITE", "LOADS", "PYTHON", "DJANGO", "APPLICATION", "SETTINGS", "LISTENS", "ON"]
    assert good.endswith(f"app:app      -         127.0.0.1:{free_port}")
    assert bad.startswith("bad   failed  -")
    assert "bad: ModuleNotFoundError: No module named 'nothing_of_this_name'\n    Traceback" in result.stderr
    assert ":12: log.access: has no effect: an access log is a file" in result.stderr
    assert result.stderr.endswith("djsup.toml: 1 thing failed\n")
    assert not (tmp_path / "bad.sock").exists()
