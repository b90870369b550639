"""``djsup top`` in a real terminal (a pty), before a fake daemon."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import Result

from cli.fake_daemon import FakeDaemon
from cli.test_verbs import BLOG, SHOP, picture
from djsup.cli.screen import Screen
from djsup.core.snapshot import from_json

WAIT_S = 30.0
ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[a-zA-Z]|\([AB0])")


class Terminal:
    """A terminal with djsup top in it: what it has written, and keys."""

    def __init__(self, *arguments: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 30, 140, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "djsup", "top", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        self.theirs = theirs
        self.written = b""

    def press(self, keys: str) -> None:
        """Press keys; what is waited for next must be drawn after them."""
        self.written = b""
        os.write(self.ours, keys.encode())

    def wait(self, *texts: str) -> str:
        """Wait until all of these have been drawn."""
        end = time.monotonic() + WAIT_S
        while True:
            plain = ESCAPES.sub(b"", self.written).decode(errors="replace")
            if all(text in plain for text in texts):
                return plain
            assert time.monotonic() < end, f"waited for {texts} in {plain[-3000:]}"
            self._read(0.1)

    def end(self) -> int:
        """Read on until it has ended; its exit status."""
        end = time.monotonic() + WAIT_S
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self._read(0.05)
        while self._read(0):  # its last words: it may have ended since they were looked for
            pass
        return self.process.returncode

    def _read(self, for_s: float) -> bool:
        """Read what it has written, or writes within so long; whether there was anything."""
        if not select.select([self.ours], [], [], for_s)[0]:
            return False
        self.written += os.read(self.ours, 65536)
        return True

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.ours)
        with contextlib.suppress(OSError):
            os.close(self.theirs)


@pytest.fixture
def lively(daemon: FakeDaemon) -> FakeDaemon:
    """A daemon of two sites that sends a picture and then waits."""

    def watch(_request: Any) -> Iterator[Any]:
        yield {"snapshot": picture(BLOG, SHOP)}
        daemon.leaving.wait(60)

    daemon.answer("status", {"result": picture(BLOG, SHOP)})
    daemon.answers["watch"] = watch
    return daemon


@pytest.fixture
def terminal(lively: FakeDaemon) -> Iterator[Terminal]:
    shown = Terminal("--runtime-dir", str(lively.runtime_dir))
    yield shown
    shown.close()


def asked(daemon: FakeDaemon, verb: str) -> list[dict[str, Any]]:
    return [each for each in daemon.asked if each["verb"] == verb]


def test_top_shows_every_site_and_the_workers_of_one(terminal: Terminal) -> None:
    terminal.wait("blog", "shop", "backing-off", "1.2", "3.2s", "GET /slow", "q quit")
    terminal.press("\r")
    terminal.wait("RUNS NOW", "4001", "3.2s GET /slow", "esc back")
    terminal.press("\x1b")
    terminal.wait("OLDEST", "shop")
    terminal.press("q")
    assert terminal.end() == 0


def test_an_action_is_done_only_when_it_is_confirmed(terminal: Terminal, lively: FakeDaemon) -> None:
    lively.answer("reload", {"result": {"sites": [{"result": "done", "generation": 4}]}})
    lively.answer("scale", {"result": {"site": "shop", "workers": 3}})
    terminal.wait("blog")
    terminal.press("R")
    terminal.wait("reload blog?")
    terminal.press("n")
    terminal.wait("q quit")
    assert asked(lively, "reload") == []
    terminal.press("R")
    terminal.wait("reload blog?")
    terminal.press("y")
    terminal.wait("blog: done, generation 4")
    assert [each["sites"] for each in asked(lively, "reload")] == [["blog"]]
    terminal.press("\x1b[B+")
    terminal.wait("one worker more for shop?")
    terminal.press("y")
    terminal.wait("shop: 3 workers")
    assert [(each["site"], each["workers"]) for each in asked(lively, "scale")] == [("shop", "+1")]


def test_a_reload_that_is_rolled_back_is_said(terminal: Terminal, lively: FakeDaemon) -> None:
    lively.answer(
        "reload",
        {"result": {"sites": [{"result": "rolled-back", "generation": 4, "error": "no module shop"}]}},
    )
    terminal.wait("blog")
    terminal.press("Ry")
    terminal.wait("blog: rolled back: no module shop")


def test_sites_are_sorted_and_the_mark_stays_on_its_site() -> None:
    screen = Screen().with_picture(from_json(picture(SHOP, BLOG)))
    assert [site.name for site in screen.sites] == ["blog", "shop"]
    assert screen.chosen == "blog"
    by_errors = replace(screen.moved(1), sort="e").with_picture(
        from_json(picture(SHOP, replace(BLOG, name="zoo")))
    )
    assert [site.name for site in by_errors.sites] == ["zoo", "shop"]
    assert by_errors.chosen == "shop"
    assert replace(by_errors, opened="shop").with_picture(from_json(picture(BLOG))).opened is None


def test_a_daemon_that_goes_away_is_said_and_its_last_picture_stays(
    terminal: Terminal, lively: FakeDaemon
) -> None:
    terminal.wait("blog")
    terminal.written = b""
    lively.answers["watch"] = lambda _request: ()
    lively.leaving.set()
    terminal.wait("this is the last picture", "blog")
    terminal.press("q")
    assert terminal.end() == 0


@pytest.mark.parametrize("how", ["q", "interrupt"])
def test_the_terminal_is_as_before_when_top_has_ended(terminal: Terminal, how: str) -> None:
    terminal.wait("blog")
    terminal.press("R")
    terminal.wait("reload blog?")  # it is in its loop
    terminal.press("n")
    terminal.wait("q quit")
    assert termios.tcgetattr(terminal.theirs) != terminal.before
    if how == "q":
        terminal.press("q")
    else:
        terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == (0 if how == "q" else 130)
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert b"\x1b[?1049l" in terminal.written


def test_top_without_a_terminal_prints_once(lively: FakeDaemon, djsup: Callable[..., Result]) -> None:
    result = djsup("top", "--runtime-dir", lively.runtime_dir)
    assert result.exit_code == 0
    assert "blog" in result.stdout
    assert "GET /slow" in result.stdout
    assert "quit" not in result.stdout
    assert "\x1b" not in result.stdout
    one = djsup("top", "blog", "--runtime-dir", lively.runtime_dir)
    assert "3.2s GET /slow" in one.stdout
