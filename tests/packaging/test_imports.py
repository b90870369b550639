"""Who may import whom: the contracts hold, and a breach is noticed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT_S = 120.0


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    paths = f"{directory / 'supervisor'}:{directory / 'web_ui'}"
    command = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports_command as c; c()",
    ]
    return subprocess.run(
        [*command, "--no-cache"],
        cwd=directory,
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=LINT_S,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("supervisor", "web_ui"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "static"))
    return tmp_path


def plant(tree: Path, module: str, line: str) -> None:
    path = tree / module
    path.write_text(f"{path.read_text()}\n\n{line}\n")


def test_contracts_are_kept(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("supervisor/djsup/core/model.py", "import time", "The core is pure"),
        ("supervisor/djsup/core/pool.py", "import asyncio", "The core is pure"),
        ("supervisor/djsup_worker/limits.py", "import djsup.core.model", "The worker knows nothing of the daemon"),
        ("supervisor/djsup/client.py", "import aiohttp", "aiohttp lives in the dashboard only"),
        ("web_ui/djsup_web/app.py", "import djsup.daemon", "The dashboard talks through the client"),
        ("supervisor/djsup/shell/logs.py", "import djsup.shell.sockets", "The files of the shell do not know each other"),
    ],
)  # fmt: skip
def test_planted_breach_is_reported(tree: Path, module: str, line: str, contract: str) -> None:
    plant(tree, module, line)
    done = lint(tree)
    assert done.returncode != 0
    assert f"{contract} BROKEN" in done.stdout
