"""The Python interpreters of this machine, found by running them.

A name on PATH proves nothing (pyenv's shims answer with an error), and a Python without ``venv`` and
``ensurepip`` is of no use here.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MINORS = range(9, 15)
"""Minor versions of Python 3 that a site may run on."""
ANSWER_S = 10.0
"""How long a candidate may take to say its version, in seconds."""
QUESTION = "import sys, venv, ensurepip; print(sys.version_info[1], sys.executable)"


@dataclass(frozen=True, slots=True, order=True)
class Interpreter:
    """One Python 3 that works."""

    minor: int
    path: str

    @property
    def version(self) -> str:
        """Its version as people write it: 3.12."""
        return f"3.{self.minor}"


def this_one() -> Interpreter:
    """The interpreter that runs this script."""
    return Interpreter(sys.version_info[1], sys.executable)


def ask(path: str | Path) -> Interpreter | None:
    """Run a candidate; None when it doesn't run, or cannot make virtualenvs."""
    try:
        done = subprocess.run(
            [path, "-c", QUESTION], capture_output=True, text=True, timeout=ANSWER_S, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    minor, _, executable = done.stdout.strip().partition(" ")
    return Interpreter(int(minor), executable)


def all_others() -> list[Interpreter]:
    """The newest working interpreter of each minor version that this script does not run on, oldest first."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found: dict[int, Interpreter] = {}
    for minor in MINORS:
        if minor == sys.version_info[1]:
            continue
        on_path = [Path(each) / f"python3.{minor}" for each in os.get_exec_path()]
        of_pyenv = sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3"), reverse=True)
        for candidate in (*on_path, *of_pyenv):
            if candidate.exists() and (interpreter := ask(candidate)) is not None:
                found[minor] = interpreter
                break
    return [found[minor] for minor in sorted(found)]
