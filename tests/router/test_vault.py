"""The vault: what is put into it comes back, and what is taken out of it is closed."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from djsup.router import vault
from djsup.router.vault import FDS_MAX, Vault

SLOTS = 400
WAIT_S = 20


@contextlib.contextmanager
def held(slots: int = SLOTS) -> Iterator[tuple[Vault, socket.socket]]:
    """A vault in a thread: a router's end, and the daemon's copy of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = os.memfd_create("table")
    os.ftruncate(table, (slots + 1) * vault.WORD_BYTES)
    thread = threading.Thread(target=vault.hold, args=(theirs, table), daemon=True)
    thread.start()
    with theirs, ours.dup() as daemons:
        router = Vault(ours, os.dup(table))
        yield router, daemons
        router.line.close()
        daemons.close()
        thread.join(WAIT_S)
        assert not thread.is_alive(), "it does not end when nobody is there"
    os.close(table)


def put(router: Vault, number: int) -> tuple[socket.socket, int]:
    """A connection that only the vault has; the client's end, and its slot."""
    client, server = socket.socketpair()
    client.settimeout(WAIT_S)
    with server:
        slot = router.put(server.fileno(), number, b"note %d" % number, tls=number % 2 == 0)
        router.flush()
    return client, slot


def test_all_that_was_put_in_comes_back_with_what_was_noted() -> None:
    number = FDS_MAX * 3 + 5
    with held() as (router, daemons):
        clients = []
        router.line.setblocking(True)
        for each in range(1, number + 1):
            client, slot = put(router, each)
            router.owners[slot] = each % 3
            clients.append(client)
        router.counted = number
        router.close()
        after, kept = Vault.take_over(daemons.dup())
        assert after.counted == number
        assert sorted(each.number for each in kept) == list(range(1, number + 1))
        for one in kept:
            expected = b"note %d" % one.number, one.number % 2 == 0, one.number % 3
            assert (one.note, one.tls, one.owner) == expected
            with socket.socket(fileno=one.fd) as server:
                server.send(b"hello")
            assert clients[one.number - 1].recv(10) == b"hello"
        new, slot = put(after, number + 1)
        assert slot not in {each.slot for each in kept}
        after.close()
        for client in (new, *clients):
            client.close()


def test_what_is_dropped_is_closed_and_its_slot_is_used_again() -> None:
    with held() as (router, _):
        client, slot = put(router, 1)
        router.drop(slot)
        router.flush()
        assert client.recv(1) == b""
        other, again = put(router, 2)
        assert again == slot
        router.drop(again)
        third, server = socket.socketpair()
        with server:
            new = router.put(server.fileno(), 3, b"", tls=False)
            assert new != slot, "the vault still has another there"
            router.drop(new)  # before it was said
            router.flush()
        assert other.recv(1) == third.recv(1) == b""
        for each in (client, other, third):
            each.close()
        router.close()


def test_what_a_worker_has_for_good_is_nobody_elses_until_the_vault_has_closed_it() -> None:
    with held() as (router, daemons), contextlib.ExitStack() as clients:
        client, slot = put(router, 2)
        clients.enter_context(client)
        router.owners[slot] = 77
        router.drop(slot)  # and this router does not live to say so
        after, kept = Vault.take_over(daemons.dup())
        assert [(each.slot, each.owner) for each in kept] == [(slot, 77)]
        os.close(kept[0].fd)
        after.close()
        router.close()


def test_a_connection_that_is_to_linger_delays_nobody() -> None:
    """A worker that has had it can say so (SO_LINGER), and leave bytes behind that nobody reads."""
    with (
        held() as (router, daemons),
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        slot = router.put(server.fileno(), 1, b"", tls=False)
        router.flush()
        server.setblocking(False)
        said = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                said += server.send(b"x" * 65536)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
        server.close()
        router.drop(slot)
        router.flush()
        after, kept = Vault.take_over(daemons.dup())  # which waits for less than that
        assert kept == []
        client.settimeout(WAIT_S)
        while data := client.recv(1 << 20):
            said -= len(data)
        assert said == 0
        after.close()
        router.close()


def test_a_router_that_died_while_it_took_over_leaves_nothing_in_the_way() -> None:
    with held() as (router, daemons):
        router.line.setblocking(True)
        clients = [put(router, number)[0] for number in range(1, 200)]
        router.line.send(bytes((vault.HAND,)) + b"another!")
        assert router.line.recv(100)[0] == vault.BEGIN
        router.close()
        after, kept = Vault.take_over(daemons.dup())
        assert len(kept) == len(clients)
        for each in kept:
            os.close(each.fd)
            after.drop(each.slot)
        after.flush()
        assert all(client.recv(1) == b"" for client in clients)
        for client in clients:
            client.close()
        after.close()


def test_a_full_table_takes_no_more_and_a_vault_that_is_gone_is_told_of() -> None:
    with held(slots=2) as (router, daemons):
        clients = [put(router, number) for number in (1, 2, 3)]
        assert [slot for _, slot in clients] == [1, 2, 0]
        router.close()
        daemons.shutdown(socket.SHUT_RDWR)
        with daemons.dup() as line, pytest.raises(OSError, match="the vault cannot be had"):
            Vault.take_over(line)
        for client, _ in clients:
            client.close()


STORY = """
import os, socket, time
from djsup.router import vault
made = vault.start(10_000)
clients = []
for number in range(1, 3001):
    client, server = socket.socketpair()
    slot = made.put(server.fileno(), number, b"note", tls=False)
    while made.is_behind:
        try:
            made.flush()
        except BlockingIOError:
            time.sleep(0.001)
    server.close()
    if number <= 20:
        clients.append(client)
    else:
        made.drop(slot)
        client.close()
made.flush()
(pid,) = map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split())
end = time.monotonic() + 20
while len(os.listdir(f"/proc/{pid}/fd")) != 25:  # three of every process, line, table, and twenty
    assert time.monotonic() < end, os.listdir(f"/proc/{pid}/fd")
    time.sleep(0.01)
assert open(f"/proc/{pid}/comm").read() == "djsup-vault\\n"
made.close()
assert os.waitpid(pid, 0) == (pid, 0)
assert all(client.recv(1) == b"" for client in clients)
"""


def test_a_process_holds_connections_and_nothing_else() -> None:
    """As the router makes it: forked, with a name of its own, and no descriptor but its own."""
    subprocess.run([sys.executable, "-c", STORY], check=True, timeout=60)  # for this one has threads


CROWDED = """
import os, resource, socket, threading, time
from djsup.router import vault
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65533, 65533, 65533)
made = vault.start(128)
made.line.setblocking(True)
pairs = [socket.socketpair() for _ in range(40)]
for number, (_, server) in enumerate(pairs, 1):
    made.put(server.fileno(), number, b"", tls=False)
made.flush()
time.sleep(0.2)  # until the vault has them, they are on their way as well
sent, unread = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    for _ in range(20):
        socket.send_fds(sent, [b"."], [sent.fileno()] * 60)
    raise SystemExit("this kernel counts no descriptors")
except OSError as error:
    assert error.errno == 109, error
began = time.monotonic()
threading.Timer(0.5, lambda: (sent.close(), unread.close())).start()
assert len(vault.Vault.take_over(made.line.dup())[1]) == 40
assert time.monotonic() - began > 0.5
"""


def test_a_vault_waits_until_the_kernel_takes_more_descriptors() -> None:
    """ETOOMANYREFS: so many of one user's are on their way, whoever sends them."""
    subprocess.run([sys.executable, "-c", CROWDED], check=True, timeout=60)
