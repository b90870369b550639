"""How a program of a site is run: its words, its environment, its user.

Knows the settings and the machine's files; starts nothing (``performer.py`` does).
"""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from djsup.shell import processes

if TYPE_CHECKING:
    from djsup.core.model import ProgramSettings, SiteName, SiteSettings


def identity(site: SiteSettings, program: ProgramSettings) -> processes.Identity:
    """Whom a program runs as: its own user, else the site's.

    Raises:
        processes.CannotRun: there is no such user.
    """
    if program.user is not None:
        return processes.Identity.of(program.user, None)
    return processes.Identity.of(site.user, site.group)


def command(
    site: SiteSettings,
    program: ProgramSettings,
    instance: int | None,
    stdout: int,
    stderr: int,
    notify_socket: str | None = None,
) -> processes.Command:
    """What to run for one instance, or (None) for a command that is no program.

    Raises:
        processes.CannotRun: its first word is no program, or there is no such user.
    """
    who = identity(site, program)
    environment = processes.environment(who, _own(site, program, instance))
    # What the site's interpreter has beside it comes first: celery is the virtualenv's, not the machine's.
    scripts = str(Path(site.python).parent)
    environment["PATH"] = f"{scripts}:{environment.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    if notify_socket is not None:
        environment["NOTIFY_SOCKET"] = notify_socket
        if program.watchdog_s:
            environment["WATCHDOG_USEC"] = str(int(program.watchdog_s * 1_000_000))
    words = shlex.split(program.command)
    found = _find(words[0], site.directory, environment["PATH"])
    if found is None:
        raise processes.CannotRun(f"there is no program {words[0]!r} in {scripts} or on PATH")
    return processes.Command(
        (found, *words[1:]),
        site.directory,
        environment,
        who,
        stdout,
        stderr,
        whole_group=True,
        orphan_signal=f"SIG{program.stop_signal}",
    )


def marks(site: SiteName, program: ProgramSettings) -> dict[str, str]:
    """By what a program and its children are known: variables of their environment."""
    return {"DJSUP_SITE": site, "DJSUP_PROGRAM": program.name}


def _own(site: SiteSettings, program: ProgramSettings, instance: int | None) -> dict[str, str]:
    """The environment of its own: what helps it first, so that the site's and the program's can say otherwise."""
    prefix = Path(site.python).parent.parent
    helpful = {
        "PYTHONUNBUFFERED": "1",  # so that its lines are in the log when they are printed
        **marks(site.name, program),
    }
    if instance is not None:
        helpful["DJSUP_INSTANCE"] = str(instance)
    if (prefix / "pyvenv.cfg").is_file():
        helpful["VIRTUAL_ENV"] = str(prefix)
    if site.settings is not None:
        helpful["DJANGO_SETTINGS_MODULE"] = site.settings
    return {**helpful, **dict(site.env), **dict(program.env)}


def _find(word: str, directory: str, path: str) -> str | None:
    """The file to run: a name is looked up in PATH, a path is one from the site's directory."""
    if "/" in word:
        return str(Path(directory, word))
    return shutil.which(word, path=path)
