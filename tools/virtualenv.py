"""A virtualenv that is made and filled once, and again only when what it was made from has changed.

A stamp in the virtualenv holds a hash of that; a second ``make`` reads the stamp and does nothing else.
"""

import hashlib
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tools import debian
from tools.interpreters import Interpreter
from tools.say import Failure, say, show_end

PIP_WITH_GROUPS = (25, 1)
"""The first pip that installs dependency groups (PEP 735)."""


@dataclass(frozen=True, slots=True)
class Virtualenv:
    """Where it is, which Python it is made with, what is installed in it, and from which files that follows."""

    path: Path
    log: Path
    install: tuple[str, ...]
    """Arguments of ``pip install``, run in ``directory``."""
    directory: Path
    sources: tuple[Path, ...]
    """Files whose change means a new ``pip install``."""
    name: str = "filled"
    """The stamp's name; several may describe one virtualenv."""
    implied_by: tuple[str, ...] = field(default=())
    """Names of stamps with the same sources that install more than this one."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    def ready(self) -> bool:
        """Whether it is filled from these very sources, at this very place."""
        print_ = self._fingerprint()
        return any(_read(self._stamp(name)) == print_ for name in (self.name, *self.implied_by))

    def prepare(self, interpreter: Interpreter) -> None:
        """Make and fill it, if it is not ready. One that runs and is of the same version is kept.

        Raises:
            Failure: it can't be made, or pip failed; the log's end has been shown.
        """
        if self._minor() != interpreter.minor:
            self._make(interpreter)
        elif self.ready():
            return
        for stamp in self.path.glob(".stamp-*"):
            stamp.unlink()
        if self._pip_version() < PIP_WITH_GROUPS:
            self._pip("--upgrade", "pip>=25.1")
        say(f"Installing what {self.path} needs (log: {self.log})")
        self._pip(*self.install)
        self._stamp(self.name).write_text(self._fingerprint())

    def _make(self, interpreter: Interpreter) -> None:
        say(f"Making {self.path} with Python {interpreter.version} ({interpreter.path})")
        make = [interpreter.path, "-m", "venv", "--clear", str(self.path)]
        if self._run(make):
            return
        package = f"python{interpreter.version}-venv"
        has_ensurepip = self._run([interpreter.path, "-c", "import ensurepip"])
        if not has_ensurepip and debian.install([package], self.log) and self._run(make):
            return
        if not has_ensurepip:
            raise Failure(
                f"{interpreter.path} cannot make virtualenvs. Install its venv module and try again: "
                f"{debian.command([package])}"
            )
        show_end(self.log)
        raise Failure(f"{self.path} could not be made")

    def _pip(self, *arguments: str) -> None:
        pip = [
            str(self.python),
            "-m",
            "pip",
            "install",
            "--no-input",
            "--disable-pip-version-check",
            *arguments,
        ]
        if not self._run(pip):
            show_end(self.log)
            raise Failure(f"pip failed; the whole log is {self.log}")

    def _run(self, arguments: list[str]) -> bool:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            done = subprocess.run(
                arguments, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
            )
        return done.returncode == 0

    def _minor(self) -> int | None:
        """The minor version of its Python, None when there is none that works."""
        ask = "import sys, pip; print(sys.version_info[1])"
        try:
            done = subprocess.run([self.python, "-c", ask], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return int(done.stdout) if done.returncode == 0 else None

    def _pip_version(self) -> tuple[int, ...]:
        ask = "import pip; print(pip.__version__)"
        done = subprocess.run([self.python, "-c", ask], capture_output=True, text=True, check=True)
        return tuple(int(part) for part in done.stdout.strip().split(".")[:2])

    def _stamp(self, name: str) -> Path:
        return self.path / f".stamp-{name}"

    def _fingerprint(self) -> str:
        """A hash of the sources and of the place (a virtualenv that was moved is broken)."""
        parts = [str(self.path), *(source.read_text() for source in self.sources)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
