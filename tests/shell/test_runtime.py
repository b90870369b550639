from __future__ import annotations

import os
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from djsup.shell.runtime import RuntimeDirectory, RuntimeTaken, RuntimeUnusable, read_tokens


def test_a_second_daemon_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    first = RuntimeDirectory(tmp_path / "run")
    with pytest.raises(RuntimeTaken, match=f"pid {os.getpid()} has"):
        RuntimeDirectory(tmp_path / "run")
    first.release()
    RuntimeDirectory(tmp_path / "run").release()


def test_a_stale_pid_file_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "djsup.pid").write_text("1\n")
    runtime = RuntimeDirectory(tmp_path)
    assert (tmp_path / "djsup.pid").read_text() == f"{os.getpid()}\n"
    runtime.release()


def test_the_lock_of_a_killed_daemon_is_gone_with_it(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from djsup.shell.runtime import RuntimeDirectory;"
        "held = RuntimeDirectory(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=30)
    assert (tmp_path / "djsup.pid").exists()
    RuntimeDirectory(tmp_path).release()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(RuntimeUnusable, match="others may write to it; chmod go-w"):
        RuntimeDirectory(tmp_path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RuntimeUnusable, match="not a directory"):
        RuntimeDirectory(tmp_path / "link")


def test_a_token_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "etc" / "token"
    first = read_tokens(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_tokens(file) == first == (sha256(file.read_text().strip().encode()).hexdigest(),)


def test_a_token_file_may_have_several_tokens_and_comments(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("# of the pager\none\n\n  two \none\n")
    hashes = tuple(sha256(token).hexdigest() for token in (b"one", b"two"))
    assert read_tokens(tmp_path / "token") == hashes


@pytest.mark.parametrize("text", ["\n", "", "# nobody\n"])
def test_a_token_file_without_tokens_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(ValueError, match="is empty"):
        read_tokens(tmp_path / "token")
