"""The worker's folder: what a site's interpreter is given to run, laid out in the runtime directory.

    FOLDER/__main__.py                     starts djsup_worker
    FOLDER/djsup_worker/                   a copy of the package
    FOLDER/jail.py                         the stage before a site's interpreter, for the daemon's own
    FOLDER/lent/<cache_tag>/httptools/     for sites whose Python is of the daemon's version
    FOLDER/lent/any/whitenoise/            for every site

Running sites keep the copy that they started with, so an upgrade of djsup on disk cannot mix two
versions of the messages under a running daemon.
"""

from __future__ import annotations

import compileall
import importlib.util
import shutil
import stat
import sys
from pathlib import Path

from djsup import jail

JAIL = "jail.py"
MAIN = """\
from djsup_worker import rests

rests.own.begin()

from djsup_worker.__main__ import main

main()
"""
MODE = 0o644
CACHE = "__pycache__"
NOT_LENT = {".pyc", ".pyx", ".pxd", ".c", ".h"}
"""Ends of names of what no interpreter reads."""


def lay_out(folder: Path) -> Path:
    """Make the folder anew and return it; readable by every user, writable by its owner only.

    A folder that is as it should be stays: a daemon that is started after another's death needs no room on a disk
    that is full by now. Any other is replaced in one rename, so that a process which starts just now finds either
    the old one whole or the new one whole.

    Raises:
        OSError: it cannot be written.
    """
    files = _files()
    if _is_there(folder, files):
        return folder
    new = folder.with_name(folder.name + ".new")
    old = folder.with_name(folder.name + ".old")
    for each in (new, old):
        shutil.rmtree(each, ignore_errors=True)
    new.mkdir(parents=True, mode=0o755)
    try:
        for name, source in files.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(source)
        compileall.compile_dir(new, quiet=2)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() else MODE)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _files() -> dict[str, bytes]:
    """What is to be in the folder, by name in it."""
    return {
        "__main__.py": MAIN.encode(),
        JAIL: Path(jail.__file__).read_bytes(),
        **_package("djsup_worker", "djsup_worker"),
        **_package("httptools", f"lent/{sys.implementation.cache_tag}/httptools"),
        **_package("whitenoise", "lent/any/whitenoise"),
    }


def _package(name: str, to: str) -> dict[str, bytes]:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {name} is not installed beside djsup")
    root = Path(spec.submodule_search_locations[0])
    return {
        f"{to}/{path.relative_to(root)}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix not in NOT_LENT and path.parent.name != CACHE
    }


def _is_there(folder: Path, files: dict[str, bytes]) -> bool:
    """Whether the folder has these files as they are, readable by all, and no others but what Python made of them."""
    try:
        found = {path for path in folder.rglob("*") if path.is_file() and path.parent.name != CACHE}
        return found == {folder / name for name in files} and all(
            stat.S_IMODE((folder / name).stat().st_mode) == MODE and (folder / name).read_bytes() == source
            for name, source in files.items()
        )
    except OSError:
        return False
