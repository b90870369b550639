"""Which configuration file is meant, and where its daemon is found.

Imports neither pydantic nor the schema, so that ``djsup status`` answers at once, and a daemon
can be found (and stopped) while its configuration is full of mistakes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from djsup.config.documents import read
from djsup.config.problem import ConfigError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "DJSUP_CONFIG"
LOCAL = "djsup.toml"
SYSTEM = Path("/etc/djsup/djsup.toml")


def find_file(explicit: str | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file that is named, else $DJSUP_CONFIG, else ./djsup.toml, else /etc/djsup/djsup.toml.

    A file that is named need not exist (reading it will tell); the others are taken where they
    do. None: there is none.
    """
    named = explicit or environ.get(VARIABLE)
    if named:
        return cwd / named
    return next((file for file in (cwd / LOCAL, SYSTEM) if file.is_file()), None)


def runtime_dir_of(file: Path, environ: Mapping[str, str]) -> str:
    """The runtime directory that a configuration names, whatever else is wrong with it.

    Raises:
        ConfigError: it can't be told, as the file can't be read.
    """
    documents = read(str(file), environ)
    path = ("runtime_dir",)
    value = documents.data.get("runtime_dir")
    if not documents.is_read or documents.is_broken(path):
        raise ConfigError(documents.problems)
    if value is None:
        return default_runtime_dir(environ)
    if not isinstance(value, str) or not value:
        raise ConfigError([documents.problem(path, found=shown(value), allowed="a path in quotes")])
    return documents.absolute(path, value)


def default_runtime_dir(environ: Mapping[str, str]) -> str:
    """/run/djsup as root, else $XDG_RUNTIME_DIR/djsup, else a private folder in /tmp."""
    if os.geteuid() == 0:
        return "/run/djsup"
    session = environ.get("XDG_RUNTIME_DIR", "")
    if session.startswith("/"):
        return str(Path(session) / "djsup")
    return str(Path(tempfile.gettempdir()) / f"djsup-{os.geteuid()}")
