"""No clock, no chance and no I/O in the core: shown by what it does, and by what it imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import freezegun
import pytest

from core.simulation.history import History, Name

ROOT = Path(__file__).parents[2]
CONTRACTS = """
[tool.importlinter]
root_packages = ["djsup"]
include_external_packages = true
"""


def told(seed: int) -> list[str]:
    lines: list[str] = []
    History(Name(seed), lines.append).play()
    return lines


def test_jumps_of_the_wall_clock_change_nothing() -> None:
    calm = told(7)
    lines: list[str] = []
    with freezegun.freeze_time("2026-03-29 00:59:59") as clock:

        def jump(line: str) -> None:
            lines.append(line)
            clock.tick(3600.0 if len(lines) % 2 else -7200.0)

        History(Name(7), jump).play()
    assert lines == calm


def test_hashes_of_strings_change_nothing() -> None:
    program = f"import sys; sys.path[:0] = {sys.path!r}\nfrom core.simulation.history import History, Name\nHistory(Name(7), print).play()"
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "breach", ["import time", "import asyncio", "from os import getpid", "import random"]
)
def test_breach_of_the_core_is_reported(breach: str, tmp_path: Path) -> None:
    package = tmp_path / "djsup"
    shutil.copytree(ROOT / "supervisor" / "djsup" / "core", package / "core")
    (package / "__init__.py").touch()
    rules = (ROOT / "pyproject.toml").read_text()
    start = rules.index('[[tool.importlinter.contracts]]\nname = "The core is pure"')
    contract = rules[start : rules.index("[[tool.importlinter.contracts]]", start + 1)]
    for other in (
        "djsup.cli",
        "djsup.config",
        "djsup.shell",
        "djsup.daemon",
        "djsup.client",
        "djsup_worker",
        "djsup_web",
    ):
        contract = contract.replace(f'"{other}",', "")
    (tmp_path / "pyproject.toml").write_text(CONTRACTS + contract)
    assert lint(tmp_path).returncode == 0
    with (package / "core" / "backoff.py").open("a") as planted:
        planted.write(f"\n{breach}\n")
    reported = lint(tmp_path)
    assert reported.returncode == 1, reported.stdout
    assert "The core is pure BROKEN" in reported.stdout


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", "pyproject.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
