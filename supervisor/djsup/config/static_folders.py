"""What speaks against serving a folder to everybody: it is missing, or something else is in it.

Looks at the machine and changes nothing. Hidden files are never served, and so of no concern here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.model import StaticFolder

TELLTALES = ("manage.py", "settings.py", "settings/__init__.py", "wsgi.py", "db.sqlite3")
"""What lies at the top of a folder of code or data, and never of one that collectstatic made."""


def mistake(folder: StaticFolder, private: Mapping[str, str]) -> str | None:
    """Why a folder must not be served; None: nothing is known against it.

    ``private`` names paths that nobody should be able to read; empty ones do not count.
    """
    path = Path(folder.path)
    if not path.exists():
        # An upload makes its folder; collectstatic has to be run before the site is started.
        return (
            None
            if folder.changes
            else f"{path} does not exist; run manage.py collectstatic, or mend the path"
        )
    if not path.is_dir():
        return f"{path} is no folder"
    real = path.resolve()
    for what, where in private.items():
        if where and Path(where).resolve().is_relative_to(real):
            return (
                f"{path} holds {what} ({where}), which everybody could read then; serve a folder of its own"
            )
    for name in TELLTALES:
        if (path / name).exists():
            return (
                f"{path} holds {name}, which everybody could read at {folder.prefix}{name};"
                " serve a folder that holds nothing but public files"
            )
    return None
