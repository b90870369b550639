"""Sites of one file and without Django, for what a daemon does with any application: they boot in no time.

Many of them fit into one daemon, each with a test of its own: ``deploy``, then ``DaemonUnderTest.site``.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system.daemon import DaemonUnderTest

CODE = """
import hashlib, os, time
VERSION = %(version)r

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def drip(path):
    yield VERSION.encode() + b" begins\\n"
    wait(path)
    yield VERSION.encode() + b" ends\\n"

def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    status, body = "200 OK", VERSION
    if path == "/":
        %(first)s
    if path == "/drip":
        start_response(status, [])
        return drip(query)
    if path == "/gate":
        wait(query)
    elif path == "/upload":
        body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest()
    elif path == "/die":
        os._exit(7)
    start_response(status, [("Content-Length", str(len(body)))])
    return [body.encode()]
"""
"""Paths: / tells the version, /gate?FILE does when that file is there, /drip?FILE is a stream that ends then."""


@dataclass
class BareSite:
    """Its name and its folder; ``more`` are lines of its table."""

    daemon: DaemonUnderTest
    name: str
    more: str = "workers = 2"
    listen: str | None = None
    deploys: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.deploy("one")
        self.configure()

    @property
    def folder(self) -> Path:
        return self.daemon.folder / self.name

    @property
    def port(self) -> int:
        return self.daemon.ports[self.name]

    def configure(self, more: str | None = None) -> None:
        """Write its table, with other lines perhaps."""
        self.more = self.more if more is None else more
        lines = f'wsgi = "app:application"\nhealth.path = "/healthz"\n{self.more}'
        self.daemon.site(self.name, Path(sys.executable), listen=self.listen, more=lines)

    def deploy(self, version: str, *, first: str = "pass", top: str = "") -> None:
        """Write other code: ``first`` is what / does first, ``top`` stands above all."""
        path = self.folder / "app.py"
        path.write_text(top + CODE % {"version": version, "first": first})
        # Python takes a .pyc for that of any source of the same size and the same second: give each deploy its own.
        self.deploys += 1
        moment = time.time() - 10_000 + self.deploys
        os.utime(path, (moment, moment))

    def reload(self, version: str = "two", **wishes: Any) -> None:
        """Deploy this version, and reload to it as ``djsup reload`` does."""
        self.deploy(version)
        outcome = self.daemon.reload(self.name, **wishes)
        assert outcome["result"] == "done", (outcome, self.daemon.log)

    def pids(self) -> set[int]:
        """Of its workers that serve."""
        return self.daemon.serving(self.name)

    def kinds(self) -> list[str]:
        """Of its events."""
        return [event["kind"] for event in self.daemon.events(self.name)]
