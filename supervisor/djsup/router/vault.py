"""The vault: a process that has a second descriptor of each of the router's connections, so that they outlive the router.

It holds what it is given and closes what it is told to, and does nothing else: no byte of a client comes here. The router
forks it (nothing has to be loaded, and it has no more rights), and they speak over one line. The daemon has a copy of
the router's end: so the line outlives the router, what a router has said last is still read, and the next one asks
for all there is. The vault ends when nobody has the other end any more.

Whose a connection is stands in a table that both map, with a word for each: nobody's but the router's, or a worker's.
The router writes it before the descriptor is passed on. What no worker claims that it is noted for is the router's again.

The line is a ``SOCK_SEQPACKET`` socketpair. A message is one byte and what follows:

    from the router   P  connections, their descriptors beside them: for each a slot, its number, whether it is to speak
                         TLS, and a length with what the router wants to know of it again
                      D  slots that are empty now
                      H  eight bytes: hand over everything
    from the vault    B  those eight bytes, and the table's descriptor: here it begins
                      P  as above
                      E  those eight bytes: that was all

A vault outlives routers and upgrades, so the two may be of different versions. What is not known is passed over, and its
descriptors are closed; entries and words stay as they are, and what is added goes into a note. A vault that cannot
read an entry ends: the router starts one of its own version then, and fills it.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import select
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from djsup import descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

PUT, DROP, HAND, BEGIN, END = b"PDHBE"
ENTRY = struct.Struct("=IQ?H")
SLOT = struct.Struct("=I")
TOKEN_BYTES = 8
FDS_MAX = 64
"""Connections in one message."""
DROPS_MAX = 4096
"""Slots in one message."""
MESSAGE_MAX_BYTES = 64 * 1024
HAND_S = 5.0
"""How long a router waits for what the vault has."""
WORD_BYTES = 8
COUNTED = 0
"""The table's first word: the number that was given to a connection last."""
NOBODY = 0
"""What stands in the table for a connection that no worker has."""
NAME = "djsup-vault"
AGAIN_S = 0.01
"""When the kernel is tried again that has too many descriptors on their way, or no memory: nothing tells when."""
_PR_SET_NAME = 15  # prctl(2)
_LIBC = ctypes.CDLL(None)
_ROOM = socket.CMSG_SPACE(FDS_MAX * descriptors.BYTES)


@dataclass(frozen=True, slots=True)
class Kept:
    """A connection that was in the vault."""

    fd: int
    slot: int
    number: int
    tls: bool
    note: bytes
    owner: int
    """Whose it was noted for; ``NOBODY``: the router's."""


class Vault:
    """The router's end of the line. Slots and words are valid for as long as it is."""

    def __init__(self, line: socket.socket, table: int) -> None:
        """The table's descriptor is closed here."""
        self.line = line
        try:
            self._map = mmap.mmap(table, 0)
        finally:
            os.close(table)
        self._words = memoryview(self._map).cast("Q")
        self._next = 1
        self._free: list[int] = []
        """Slots below ``_next`` that are empty, and the vault knows that they are."""
        self._puts: dict[int, tuple[int, bytes]] = {}
        """What is not said yet: by slot a descriptor and its entry."""
        self._drops: list[int] = []

    @classmethod
    def take_over(cls, line: socket.socket) -> tuple[Vault, list[Kept]]:
        """What a router before has left in a vault.

        Raises:
            OSError: it is gone, or does not answer.
        """
        line.settimeout(HAND_S)
        found: list[tuple[int, int, int, bool, bytes]] = []
        try:
            vault = cls(line, _take_all(line, found))
        except (OSError, ValueError, struct.error) as error:
            descriptors.close_all([fd for fd, *_ in found])
            raise OSError(f"the vault cannot be had: {error}") from error
        line.setblocking(False)
        taken = {slot for _, slot, *_ in found}
        vault._next = max(taken, default=0) + 1
        vault._free = [slot for slot in range(1, vault._next) if slot not in taken]
        return vault, [Kept(*each, vault._words[each[1]]) for each in found]

    @property
    def counted(self) -> int:
        """The number that was given to a connection last."""
        return self._words[COUNTED]

    @counted.setter
    def counted(self, number: int) -> None:
        self._words[COUNTED] = number

    @property
    def owners(self) -> memoryview:
        """Whose each connection is, by slot: to be written before it is passed on, and when it is the router's again."""
        return self._words

    def put(self, fd: int, number: int, note: bytes, *, tls: bool) -> int:
        """Keep a connection, once ``flush`` is called; its slot, 0: there is none left."""
        if self._free:
            slot = self._free.pop()
        elif self._next < len(self._words):
            slot = self._next
            self._next += 1
        else:
            return 0
        self._words[slot] = NOBODY
        self._puts[slot] = fd, ENTRY.pack(slot, number, tls, len(note)) + note
        return slot

    def drop(self, slot: int) -> None:
        """Keep it no longer, once ``flush`` is called.

        Until then the vault has it, and the next router might get it: so its owner stands, and nobody else gets the slot.
        """
        if self._puts.pop(slot, None) is None:
            self._drops.append(slot)
        else:
            self._free.append(slot)

    @property
    def is_behind(self) -> bool:
        """Whether there is something to say."""
        return bool(self._drops or self._puts)

    def flush(self) -> None:
        """Say what there is to say.

        Raises:
            BlockingIOError: the line is full; what is left is said later.
            OSError: the vault is gone; or there are too many descriptors on their way, and it goes later.
        """
        while self._drops:
            slots = self._drops[:DROPS_MAX]
            self.line.send(bytes((DROP,)) + b"".join(map(SLOT.pack, slots)))
            del self._drops[: len(slots)]
            self._free += slots
        while self._puts:
            some = list(self._puts.items())[:FDS_MAX]
            text = bytes((PUT,)) + b"".join(entry for _, (_, entry) in some)
            socket.send_fds(self.line, [text], [fd for _, (fd, _) in some])
            for slot, _ in some:
                del self._puts[slot]

    def close(self) -> None:
        """Leave it alone."""
        self._words.release()
        self._map.close()
        self.line.close()


# --- the process ------------------------------------------------------------------------------------


def start(connections_max: int) -> Vault:
    """Fork a vault for so many connections.

    Raises:
        OSError: no descriptor or no process is to be had.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = os.memfd_create("djsup-connections")
    try:
        os.ftruncate(table, (connections_max + 1) * WORD_BYTES)
        if os.fork() == 0:
            _be(theirs, table)
        ours.setblocking(False)
        return Vault(ours, os.dup(table))
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(table)


def _be(line: socket.socket, table: int) -> NoReturn:
    """The life of a process that was forked to be a vault: nothing of what it was forked with is kept."""
    try:
        gc.disable()  # nothing here makes cycles; and what the router's own would close, is not ours to close
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        for fd in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
            if fd not in (line.fileno(), table):
                with suppress(OSError):  # that was the folder's
                    os.close(fd)
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
        _LIBC.prctl(
            _PR_SET_NAME, NAME.encode(), 0, 0, 0
        )  # who is not root any more cannot write /proc/self/comm
        hold(line, table)
    finally:
        os._exit(0)


def hold(line: socket.socket, table: int) -> None:
    """Hold descriptors until nobody is at the other end of the line."""
    line.setblocking(True)
    held: dict[int, tuple[int, bytes]] = {}
    with suppress(EOFError):
        while True:
            data, fds = _receive(line)
            kind, rest = data[0], data[1:]
            if kind == PUT:
                entries = list(_entries(rest))
                if len(fds) == len(entries):  # else no descriptor was free for some of them
                    for slot, number, tls, note in entries:
                        if slot in held:
                            descriptors.close_all([held[slot][0]])
                        held[slot] = fds.pop(0), ENTRY.pack(slot, number, tls, len(note)) + note
            elif kind == DROP:
                for (slot,) in SLOT.iter_unpack(rest):
                    if slot in held:
                        descriptors.close_all([held.pop(slot)[0]])
            elif kind == HAND:
                with suppress(BrokenPipeError, ConnectionResetError):
                    _hand_over(line, rest, table, held)
            descriptors.close_all(fds)
    descriptors.close_all([fd for fd, _ in held.values()])


def _hand_over(line: socket.socket, token: bytes, table: int, held: dict[int, tuple[int, bytes]]) -> None:
    _send(line, bytes((BEGIN,)) + token, [table])
    everything = list(held.values())
    for at in range(0, len(everything), FDS_MAX):
        some = everything[at : at + FDS_MAX]
        text = bytes((PUT,)) + b"".join(entry for _, entry in some)
        _send(line, text, [fd for fd, _ in some])
    _send(line, bytes((END,)) + token, [])


def _send(line: socket.socket, text: bytes, fds: list[int]) -> None:
    """Say this, though it take a while: who holds others' connections does not die of a want of memory."""
    while True:
        try:
            socket.send_fds(line, [text], fds)
        except OSError as error:
            if error.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                raise
            waiter = select.poll()
            waiter.register(line, 0)
            if waiter.poll(AGAIN_S * 1000):
                raise BrokenPipeError from error  # nobody is there to be told
        else:
            return


# --- messages ---------------------------------------------------------------------------------------


def _take_all(line: socket.socket, found: list[tuple[int, int, int, bool, bytes]]) -> int:
    """Ask for everything; gives the table's descriptor."""
    token = os.urandom(TOKEN_BYTES)
    line.send(bytes((HAND,)) + token)
    table = -1
    try:
        while True:
            data, fds = _receive(line)
            kind, rest = data[0], data[1:]
            is_ours = rest[:TOKEN_BYTES] == token
            if kind == BEGIN and is_ours and fds:
                table = fds.pop(0)
            elif kind == PUT and table >= 0:
                entries = list(_entries(rest))
                found += ((fd, *entry) for fd, entry in zip(fds, entries, strict=False))
                fds = fds[len(entries) :]
            descriptors.close_all(fds)  # what an earlier router had asked for, and did not live to read
            if kind == END and is_ours and table >= 0:
                return table
    except EOFError as error:
        raise ConnectionResetError("it is gone") from error


def _receive(line: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and its descriptors.

    Raises:
        EOFError: nobody is at the other end.
        OSError: as recvmsg(2).
    """
    while True:
        try:
            data, ancillary, _, _ = line.recvmsg(MESSAGE_MAX_BYTES, _ROOM, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            continue  # what was said before is still to be read (unix(7))
        if not data:
            raise EOFError
        return data, descriptors.in_message(ancillary)


def _entries(data: bytes) -> Iterator[tuple[int, int, bool, bytes]]:
    at = 0
    while at < len(data):
        slot, number, tls, length = ENTRY.unpack_from(data, at)
        at += ENTRY.size
        yield slot, number, tls, data[at : at + length]
        at += length
