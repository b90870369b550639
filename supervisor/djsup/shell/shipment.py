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
import sys
from typing import TYPE_CHECKING

from djsup import jail

if TYPE_CHECKING:
    from pathlib import Path

JAIL = "jail.py"
MAIN = "from djsup_worker.__main__ import main\n\nmain()\n"


def lay_out(folder: Path) -> Path:
    """Make the folder anew and return it; readable by every user, writable by its owner only.

    An old folder of that name is replaced in one rename, so that a process which starts just now
    finds either the old one whole or the new one whole.

    Raises:
        OSError: it cannot be written.
    """
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True, mode=0o755)
    (new / "__main__.py").write_text(MAIN)
    shutil.copyfile(jail.__file__, new / JAIL)
    _copy_package("djsup_worker", new / "djsup_worker")
    _copy_package("httptools", new / "lent" / str(sys.implementation.cache_tag) / "httptools")
    _copy_package("whitenoise", new / "lent" / "any" / "whitenoise")
    compileall.compile_dir(new, quiet=2)
    for path in (new, *new.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _copy_package(name: str, to: Path) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {name} is not installed beside djsup")
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", "*.pyx", "*.pxd", "*.c", "*.h")
    shutil.copytree(spec.submodule_search_locations[0], to, ignore=skip)
