"""The sockets of sd_notify(3): who is heard, and what is understood."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from djsup.core.model import Pid
from djsup.shell.notifications import STATUS_MAX, Notifications, Word

CHILD = """
import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"STATUS=a child's", sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


def heard(path: Path, say: Callable[[Notifications], None]) -> list[Word]:
    words: list[Word] = []

    async def story() -> None:
        notifications = Notifications(path, None, words.append)
        notifications.pid = Pid(os.getpid())
        say(notifications)
        notifications.read()
        notifications.close()

    asyncio.run(story())
    return words


def send(address: str, *texts: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for text in texts:
            sender.sendto(text, address)


def test_what_is_said_at_once_is_one_word_and_the_last_status_counts(tmp_path: Path) -> None:
    def say(notifications: Notifications) -> None:
        send(notifications.address, b"READY=1\nSTATUS=one\nMAINPID=1", b"WATCHDOG=1", b"STATUS=two\x1b[2J")

    assert heard(tmp_path / "notify" / "1", say) == [Word(ready=True, alive=True, status="two [2J")]


def test_what_means_nothing_is_passed_over_and_a_long_status_is_cut(tmp_path: Path) -> None:
    def say(notifications: Notifications) -> None:
        send(notifications.address, b"", b"\xff\xfe", b"READY=0", b"READY", b"MAINPID=1")
        send(notifications.address, b"STATUS=" + b"x" * 3000)

    assert heard(tmp_path / "notify" / "1", say) == [Word(status="x" * STATUS_MAX)]


def test_only_processes_of_the_session_are_heard(tmp_path: Path) -> None:
    def say(notifications: Notifications) -> None:
        with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
            notifications.pid = Pid(other.pid)
            send(notifications.address, b"READY=1")
            notifications.read()
            other.kill()
        notifications.pid = Pid(os.getsid(0))
        arguments = [sys.executable, "-c", CHILD, notifications.address]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()  # it has said it, and lives
            notifications.read()

    assert heard(tmp_path / "notify" / "1", say) == [Word(status="a child's")]


def test_socket_is_its_users_alone_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "notify" / "1"

    def say(_notifications: Notifications) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    heard(path, say)
    assert not path.exists()
