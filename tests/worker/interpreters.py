"""The Python interpreters that this machine has, and httptools (or another package) for each of them."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
HTTPTOOLS = "httptools>=0.6.4,<0.10"
INSTALL_S = 120.0


@dataclass(frozen=True)
class Interpreter:
    """One Python."""

    version: str
    path: str
    cache_tag: str


@functools.cache
def find(version: str) -> Interpreter | None:
    """The interpreter of a version: this one, one on the PATH, or pyenv's; None when there is none."""
    if version == "{}.{}".format(*sys.version_info):
        return Interpreter(version, sys.executable, str(sys.implementation.cache_tag))
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    candidates = [
        *map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True)),
        shutil.which(f"python{version}") or "",
    ]
    for path in filter(None, candidates):
        told = subprocess.run(
            [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.implementation.cache_tag)"],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        words = told.stdout.split()
        if words[:1] == [version]:
            return Interpreter(version, path, words[1])
    return None


class Missing(Exception):
    """A package cannot be had, for instance because there is no network."""


def packages(interpreter: Interpreter, *requirements: str) -> Path:
    """A folder with these packages for an interpreter; installed once, kept for later runs of the tests.

    Raises:
        Missing: pip could not install them.
    """
    name = hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:12]
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / f"djsup-test-packages-{os.getuid()}"
    )
    folder = cache / f"{interpreter.cache_tag}-{name}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as making:
        made = Path(making) / "made"
        try:
            done = subprocess.run(
                [interpreter.path, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "--target", str(made), *requirements],
                capture_output=True, text=True, check=False, timeout=INSTALL_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Missing(f"pip did not end: {error}") from error
        if done.returncode:
            raise Missing(done.stderr.strip()[-500:])
        try:
            made.rename(folder)
        except OSError:  # another process of the same test run was faster
            if not folder.is_dir():
                raise
    return folder
