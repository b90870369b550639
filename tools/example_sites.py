"""The example sites: a virtualenv of their own each, a database, data to look at.

Knows that ``blog`` runs on the same Python as djsup, ``shop``, if it can, on another one, and ``hello`` on a third, so
that whoever tries djsup sees several versions of Python and two of Django under one daemon, at one address.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.interpreters import Interpreter, all_others, ask, this_one
from tools.say import Failure, say, show_end
from tools.virtualenv import Virtualenv

SHOP_NEWEST = 12
"""Django 4.2, which the shop is written for, supports Python 3.9 to 3.12."""
HTTPTOOLS = "httptools>=0.6.4,<0.10"
"""As in pyproject.toml. djsup lends its own to sites of the same Python version; others need one."""
MADE = {".venv", "__pycache__", "static_collected", "media"}
"""Folders of a site that are made, not written."""


def prepare(root: Path) -> None:
    """Virtualenvs, databases and data of all example sites, as far as they are not there."""
    prepare_site(root, "blog", this_one(), [])
    second = _second_interpreter(root / "examples/shop/.venv")
    prepare_site(root, "shop", second, [] if second.minor == this_one().minor else [HTTPTOOLS])
    _prepare_hello(root / "examples/hello", second, root / ".cache/log/hello.log")


def prepare_site(root: Path, name: str, interpreter: Interpreter, extra: list[str]) -> None:
    """One site: its virtualenv, its database and its data."""
    directory = root / "examples" / name
    log = root / ".cache/log" / f"{name}.log"
    virtualenv = Virtualenv(
        path=directory / ".venv",
        log=log,
        install=("-r", "requirements.txt", *extra),
        directory=directory,
        sources=(directory / "requirements.txt",),
    )
    virtualenv.prepare(interpreter)
    _fill_database(directory, virtualenv.python, log)


def _prepare_hello(directory: Path, second: Interpreter, log: Path) -> None:
    """The site that has neither Django nor a database."""
    path = directory / ".venv"
    third = ask(path / "bin/python")
    if third is None:
        third = next(
            (each for each in reversed(all_others()) if each.minor not in (second.minor, this_one().minor)),
            second,
        )
    Virtualenv(path=path, log=log, install=(HTTPTOOLS,), directory=directory, sources=()).prepare(third)


def _second_interpreter(virtualenv: Path) -> Interpreter:
    """The Python that the shop has, else the newest other one that suits it, else this one."""
    if (present := ask(virtualenv / "bin/python")) is not None:
        return Interpreter(present.minor, present.path)
    fitting = [each for each in all_others() if each.minor <= SHOP_NEWEST]
    if not fitting:
        say("No second Python was found, so both example sites run on the same one.")
    return fitting[-1] if fitting else this_one()


def _fill_database(directory: Path, python: Path, log: Path) -> None:
    """Migrate, add the sample data and collect static files, unless that was done for this very code."""
    stamp = directory / ".venv/.stamp-database"
    database = directory / "db.sqlite3"
    code = sorted(_code(directory))
    fingerprint = hashlib.sha256(b"\0".join(path.read_bytes() for path in code)).hexdigest()
    if database.exists() and stamp.exists() and stamp.read_text() == fingerprint:
        return
    say(f"Filling the database of {directory.name}")
    for command in (["migrate", "--no-input"], ["seed"], ["collectstatic", "--no-input"]):
        with log.open("ab") as out:
            done = subprocess.run(
                [python, "manage.py", *command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
            )
        if done.returncode != 0:
            show_end(log)
            raise Failure(f"manage.py {command[0]} failed in {directory}")
    stamp.write_text(fingerprint)


def _code(directory: Path) -> Iterator[Path]:
    """The site's own files: neither what is installed in it nor what it wrote."""
    for folder, folders, files in os.walk(directory):
        folders[:] = [each for each in folders if each not in MADE]
        yield from (Path(folder, file) for file in files if not file.startswith("db.sqlite3"))
