"""``djsup start --succeed FD``, which only a daemon calls that replaces its own program: go on where that one was.

With ``--prove`` it is a child of that daemon, does all that it would have to do short of acting, and answers.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from djsup import bequest, upgrade
from djsup.cli.verb import DONE, Failed, Target

if TYPE_CHECKING:
    from djsup.core.model import Settings


def prove_it(target: Target, fd: int) -> int:
    """Answer on standard output; whatever stops it is an exit status and a sentence, as for every verb.

    Raises:
        Failed: it can't go on.
    """
    try:
        upgrade.prove(fd, _settings(target)[0])
    except (bequest.Unreadable, OSError) as error:
        raise Failed(str(error)) from error
    return DONE


def go_on(target: Target, fd: int) -> int:
    """Be the daemon from here on."""
    from djsup.daemon import run  # noqa: PLC0415 -- it brings asyncio, psutil and structlog along

    try:
        left = bequest.read(fd)
        os.close(fd)
    except bequest.Unreadable as error:
        # It was proved that this can't be. As after a kill: who is left calls, and is adopted.
        sys.stderr.write(f"djsup: cannot read what is handed over, begins anew: {error}\n")
        upgrade.abandon(target.runtime_dir())
        settings, warnings = _settings(target)
        return run(settings, warnings)
    try:
        settings, warnings = _settings(target)
    except Failed as error:
        problems = "".join(f"\n{problem}" for problem in error.problems)
        settings, warnings = left.settings, [f"{error}; those of before stay in force{problems}"]
    return run(settings, warnings, left=left)


def _settings(target: Target) -> tuple[Settings, list[str]]:
    loaded = target.load()
    settings = replace(loaded.settings, runtime_dir=target.runtime_dir())
    return settings, [str(warning) for warning in loaded.warnings]
