"""What ``make`` prepares: once, and with one line that helps when it can't."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools import debian
from tools.interpreters import Interpreter, ask
from tools.say import Failure
from tools.virtualenv import Virtualenv


def virtualenv(tmp_path: Path, *install: str) -> Virtualenv:
    source = tmp_path / "requirements.txt"
    if not source.exists():
        source.write_text("")
    return Virtualenv(tmp_path / ".venv", tmp_path / "log", install, tmp_path, (source,))


def this_python() -> Interpreter:
    return Interpreter(sys.version_info[1], sys.executable)


def test_python_without_ensurepip_is_answered_with_the_exact_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python3.12"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure, match=r"sudo apt-get install -y python3\.12-venv"):
        virtualenv(tmp_path).prepare(Interpreter(12, str(broken)))


def test_missing_program_is_named_with_its_package_and_the_verb_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    programs = {"sh": "dash", "no-such-program": "no-such-package"}
    debian.want_programs(programs, tmp_path / "log", "its tests are skipped")
    (line,) = capsys.readouterr().out.splitlines()
    assert "sudo apt-get install -y no-such-package" in line
    assert "its tests are skipped" in line


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a virtualenv that was made and filled."""
    folder = tmp_path_factory.mktemp("filled")
    made = virtualenv(folder, "--dry-run", "-r", "requirements.txt")
    made.prepare(this_python())
    assert made.ready()
    return folder


def test_virtualenv_is_filled_once_and_again_when_its_sources_change(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*_args: object, **_options: object) -> None:
        raise AssertionError("pip is called though nothing has changed")

    with monkeypatch.context() as patch:
        patch.setattr(Virtualenv, "_pip", unexpected)
        virtualenv(filled, "--dry-run", "-r", "requirements.txt").prepare(this_python())
    (filled / "requirements.txt").write_text("# changed\n")
    assert not virtualenv(filled).ready()


def test_failed_pip_shows_the_end_of_its_log(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (filled / "requirements.txt").write_text("# changed once more\n")
    failing = virtualenv(filled, "--no-index", "djsup-has-no-such-dependency")
    with pytest.raises(Failure, match="log"):
        failing.prepare(this_python())
    assert "No matching distribution found" in capsys.readouterr().out
    assert not failing.ready()


def test_interpreter_that_does_not_run_is_none(tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert ask(shim) is None
    assert ask(tmp_path / "missing") is None
    working = ask(sys.executable)
    assert working is not None
    assert working.minor == sys.version_info[1]


def test_unknown_verb_is_refused() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tools.prepare", "fly"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "run|test|lint|bench|fuzz" in done.stderr
