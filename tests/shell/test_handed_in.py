"""What other processes hand in is taken for what the kernel says it is."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from djsup.core.model import Address, AddressKind, Generation, SiteName
from djsup.shared_memory import SEALS
from djsup.shell import inherited
from djsup.shell.handovers import Handovers
from djsup.shell.notify import Notify
from djsup.shell.samples import Scoreboard
from djsup.shell.sockets import CannotListen, Listeners, listens_on
from djsup_worker import scoreboard

WEB = Address(AddressKind.FD, "web")


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_only_a_listener_of_that_address_is_one(cleanup: ExitStack, tmp_path: Path) -> None:
    listener = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
    port = listener.getsockname()[1]
    bound = cleanup.enter_context(socket.socket())
    bound.bind(("127.0.0.1", 0))
    named = cleanup.enter_context(socket.socket(socket.AF_UNIX))
    named.bind(str(tmp_path / "sock"))
    named.listen()
    datagram = cleanup.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    assert listens_on(listener, Address(AddressKind.TCP, "127.0.0.1", port))
    assert not listens_on(listener, Address(AddressKind.TCP, "127.0.0.1", port + 1))
    assert not listens_on(listener, Address(AddressKind.TCP, "0.0.0.0", port))
    assert not listens_on(bound, Address(AddressKind.TCP, "127.0.0.1", bound.getsockname()[1]))
    assert listens_on(named, Address(AddressKind.UNIX, str(tmp_path / "sock")))
    assert not listens_on(named, Address(AddressKind.UNIX, str(tmp_path / "other")))
    assert not listens_on(datagram, Address(AddressKind.TCP, "0.0.0.0", 0))
    assert not listens_on(listener, WEB)


def test_only_a_sealed_scoreboard_of_the_right_size_is_one(cleanup: ExitStack) -> None:
    def memory(size: int, seals: int) -> int:
        fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        cleanup.callback(os.close, fd)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    Scoreboard("blog", os.dup(memory(scoreboard.SIZE_BYTES, SEALS))).close()
    for wrong in (
        memory(scoreboard.SIZE_BYTES, fcntl.F_SEAL_GROW),
        memory(4096, SEALS),
        os.open(os.devnull, os.O_RDWR),
    ):
        with pytest.raises(ValueError, match="no scoreboard"):
            Scoreboard("blog", wrong)


def test_only_a_pair_of_sockets_is_a_handover(cleanup: ExitStack) -> None:
    blog, one = SiteName("blog"), Generation(1)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stream = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
    handovers = Handovers()
    assert not handovers.adopt(blog, one, left, stream)
    assert (blog, one) not in handovers
    assert handovers.adopt(blog, one, left, right)
    assert not handovers.adopt(blog, one, left, right), "there is one already"
    assert handovers.sending_end(blog, one) == right.fileno()
    handovers.forget(blog, one)


def test_a_named_socket_is_found_again_and_a_wrong_one_refused(cleanup: ExitStack) -> None:
    web = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
    mute = cleanup.enter_context(socket.socket())
    listeners = Listeners([("web", web), ("mute", mute), ("two", web), ("two", web)])
    for _ in range(2):  # closed and bound again, as by a restart of the site
        listeners.bind(WEB)
        assert listeners.socket(WEB).getsockname() == web.getsockname()
        listeners.close(WEB)
    for name, why in (
        ("none", "no socket of the name 'none'.*there is: mute, two, web"),
        ("mute", "no listening stream socket"),
        ("two", "2 sockets of the name 'two'"),
    ):
        with pytest.raises(CannotListen, match=why):
            listeners.bind(Address(AddressKind.FD, name))


def test_a_kept_listener_is_used_again_and_one_that_nobody_wants_is_closed() -> None:
    kept, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    address = Address(AddressKind.TCP, "127.0.0.1", kept.getsockname()[1])
    listeners = Listeners([("djsup-a", kept), ("djsup-b", other)])
    told: list[Address] = []
    listeners.bound = lambda which, _fd: told.append(which)
    listeners.bind(address)
    assert listeners.socket(address) is kept
    assert told == [address]
    assert listeners.drop_kept("djsup-") == ["djsup-b"]
    assert other.fileno() == -1
    listeners.close_all()


def test_sockets_for_another_process_are_not_ours() -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "PATH": "/bin"}
    assert inherited.take(environ) == []
    assert environ == {"PATH": "/bin"}


def test_what_a_service_manager_has_no_room_for_is_said_later(cleanup: ExitStack, tmp_path: Path) -> None:
    manager = cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    manager.bind(str(tmp_path / "notify"))
    manager.setblocking(False)
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for number in range(1000):
        notify.say(f"STATUS={number}", "READY=1")
    cleanup.callback(notify.close)
    heard: list[bytes] = []
    while len(heard) < 1000:
        before = len(heard)
        try:
            while True:
                heard.append(manager.recv(4096))
        except BlockingIOError:
            assert len(heard) > before
            notify.flush()
    assert heard == [b"STATUS=%d\nREADY=1" % number for number in range(1000)]


def test_without_a_service_manager_nothing_is_said() -> None:
    notify = Notify({})
    assert not notify
    assert notify.watchdog_s is None
    notify.say("READY=1")
