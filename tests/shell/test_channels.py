from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from djsup.shell import channels
from djsup_worker import messages


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_senders_pid_is_the_kernels_word() -> None:
    ours, theirs = channels.open_pair()
    code = (
        "import socket, sys; from djsup_worker import messages;"
        "messages.send(socket.socket(fileno=int(sys.argv[1])), messages.Hello())"
    )
    fd = theirs.fileno()
    sender = subprocess.Popen([sys.executable, "-c", code, str(fd)], pass_fds=(fd,))
    assert sender.wait(30) == 0
    received = channels.receive(ours)
    assert received == channels.Received(messages.Hello(), sender.pid)  # type: ignore[arg-type]
    with pytest.raises(BlockingIOError):
        channels.receive(ours)
    theirs.close()
    assert channels.receive(ours) is None
    ours.close()


def test_descriptors_from_the_other_side_do_not_arrive() -> None:
    ours, theirs = channels.open_pair()
    before = open_descriptors()
    messages.send(theirs, messages.Ready(), [0, 1, 2])
    assert channels.receive(ours) is not None
    assert open_descriptors() == before
    ours.close()
    theirs.close()


def test_what_another_version_says_more_is_passed_over() -> None:
    ours, theirs = channels.open_pair()
    theirs.send(b'{"kind": "Orphan", "ready": true, "tomorrow": {"a": 1}}')
    received = channels.receive(ours)
    assert received is not None
    assert received.message == messages.Orphan(ready=True)
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"{}",
        b'{"kind": "Nonsense"}',
        b'{"kind": "Fork", "proc": 1}',
        b'{"kind": "LoadFailed", "error": 5}',
        b"[]",
    ],
)
def test_what_is_no_message_is_refused_and_the_next_is_read(data: bytes) -> None:
    ours, theirs = channels.open_pair()
    theirs.send(data)
    messages.send(theirs, messages.Ready())
    with pytest.raises(messages.BadMessage):
        channels.receive(ours)
    received = channels.receive(ours)
    assert received is not None
    assert received.message == messages.Ready()
    ours.close()
    theirs.close()
