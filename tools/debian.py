"""Debian packages that a verb needs: installed when that is possible, named when it is not.

Knows apt-get and who may use it; leaves to its callers what each package is needed for.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tools.say import say, show_end

LISTS = Path("/var/lib/apt/lists")
DAEMONS = "/usr/sbin"
"""Where Debian has programs that an ordinary user's PATH does not name."""


def command(packages: list[str]) -> str:
    """What a person types to install these packages."""
    return f"sudo apt-get install -y {' '.join(packages)}"


def install(packages: list[str], log: Path) -> bool:
    """Install packages, if this is Debian's kind of system and we are root. True when they are there now."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    say(f"Installing {', '.join(packages)} from Debian (log: {log})")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install_them = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    commands = [install_them]
    if not any(LISTS.glob("*_Packages*")):
        commands.insert(0, ["apt-get", "update", "-q"])
    elif _run(install_them, quiet, log):
        return True
    else:  # the lists may be older than the archive
        commands.insert(0, ["apt-get", "update", "-q"])
    if all(_run(each, quiet, log) for each in commands):
        return True
    show_end(log)
    return False


def find(program: str) -> str | None:
    """Where a program is, daemons included; None when it is not here."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{DAEMONS}")


def want_programs(wanted: dict[str, str], log: Path, reason: str) -> None:
    """Have programs (name: package), or name in one line what is missing and for what."""
    missing = sorted({package for name, package in wanted.items() if find(name) is None})
    if missing and not install(missing, log):
        say(f"Not installed: {', '.join(missing)} ({reason}). To have them: {command(missing)}")


def _run(arguments: list[str], environment: dict[str, str], log: Path) -> bool:
    """Run one command, its output added to the log. True when it succeeded."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        done = subprocess.run(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode == 0
