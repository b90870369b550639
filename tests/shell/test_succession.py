from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from djsup.shell import sealed, succession


def test_what_was_left_is_read_as_often_as_one_likes() -> None:
    fd = sealed.seal("test", b"all there is")
    assert succession.read(fd) == succession.read(fd) == b"all there is"
    os.close(fd)


def test_what_somebody_could_change_is_not_read() -> None:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    with pytest.raises(ValueError, match="is not what is handed over"):
        succession.read(fd)
    os.close(fd)


def test_what_is_no_memory_is_not_read() -> None:
    with socket.socket() as other, pytest.raises(ValueError, match="is no memory"):
        succession.read(other.fileno())


def test_a_descriptor_that_is_not_open_is_not_taken_nor_one_that_is_named_twice() -> None:
    with socket.socket() as one, pytest.raises(ValueError, match="handed over twice"):
        succession.take([one.fileno(), one.fileno()])
    closed = socket.socket()
    number = closed.fileno()
    closed.close()
    with pytest.raises(ValueError, match="is not open"):
        succession.take([number])


def test_a_program_that_is_not_there_leaves_all_as_it_was() -> None:
    with socket.socket() as one:
        with pytest.raises(FileNotFoundError):
            succession.replace(["/nowhere/python"], {}, [one.fileno()], [signal.SIGUSR2])
        assert not one.get_inheritable()
    assert signal.SIGUSR2 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


BEFORE = """
import os, signal, sys
from djsup.shell import sealed, succession
fd = sealed.seal("test", b"from before")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGUSR1)  # comes while nobody hears it
program = [sys.executable, "-c", sys.argv[1], str(fd), str(os.getpid())]
succession.replace(program, os.environ, [fd], [signal.SIGUSR1])
"""
AFTER = """
import os, signal, sys
from djsup.shell import succession
assert os.getpid() == int(sys.argv[2])
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append("signal"))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
print(succession.read(int(sys.argv[1])).decode(), *heard)
"""


def test_another_program_goes_on_in_the_same_process_and_hears_what_came_meanwhile() -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", BEFORE, AFTER],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environ,
    )
    assert done.stdout == "from before signal\n"
