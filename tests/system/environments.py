"""Virtualenvs for sites: another Python, another Django, made once and kept between runs.

Each is named by what is in it and finished by a stamp, so that a run that was cut off leaves nothing
that a later one would trust.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "test-environments"
DJANGO = "django>=5.2,<5.3"
OLD_DJANGO = "django>=4.2,<4.3"
HTTPTOOLS = "httptools>=0.6.4,<0.10"


@cache
def interpreters() -> dict[str, str]:
    """Working interpreters on this machine by version ("3.12"), found by running candidates."""
    names = [f"python3.{minor}" for minor in range(9, 15)]
    roots = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"]
    candidates = [sys.executable, *(found for name in names if (found := shutil.which(name)))]
    candidates += [str(path) for root in roots for path in sorted(root.glob("3.*/bin/python"))]
    question = "import sys, venv; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"
    found_: dict[str, str] = {}
    for candidate in candidates:
        answer = subprocess.run(
            [candidate, "-c", question], capture_output=True, text=True, check=False, timeout=30
        )
        version, _, implementation = answer.stdout.strip().partition(" ")
        if answer.returncode == 0 and implementation == "cpython" and version >= "3.":
            found_.setdefault(version, candidate)
    return found_


def own_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def other_interpreter() -> str:
    """The version of an interpreter other than the daemon's; skips the test where there is none."""
    others = [version for version in interpreters() if version != own_version()]
    usable = [version for version in others if (3, 9) <= tuple(map(int, version.split("."))) <= (3, 13)]
    if not usable:
        pytest.skip("no second Python between 3.9 and 3.13 on this machine")
    return max(usable, key=lambda version: tuple(map(int, version.split("."))))


def environment(*requirements: str, version: str | None = None) -> Path:
    """The interpreter of a virtualenv with these requirements, made when there is none yet."""
    version = version or own_version()
    base = sys.executable if version == own_version() else interpreters()[version]
    key = hashlib.sha256(repr((base, requirements)).encode()).hexdigest()[:12]
    folder = CACHE / f"py{version}-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
            if requirements:
                pip = [sys.executable, "-m", "pip", "--python", str(folder), "install", "--quiet"]
                made = subprocess.run(
                    [*pip, *requirements], capture_output=True, text=True, check=False, timeout=300
                )
                if made.returncode != 0:
                    pytest.skip(f"pip cannot install {requirements}: {made.stderr.strip()[-300:]}")
            (folder / "finished").touch()
    return folder / "bin" / "python"
