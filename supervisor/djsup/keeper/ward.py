"""One program in the keeper's hands."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from djsup import sessions
from djsup.core.model import Pid
from djsup.keeper import letters
from djsup.shell.notifications import Hearing, Word

if TYPE_CHECKING:
    from djsup.keeper.letters import Farewell

TAIL_MAX_BYTES = 64 * 1024
"""The last of what a program prints to each stream while no daemon is there."""
BITE_BYTES = 64 * 1024


class Tail:
    """The end of what comes out of a pipe."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lost = 0
        """Bytes that came before those that are kept."""
        self._data = bytearray()

    def read(self) -> bool:
        """Take in what is there, at most one bite. Gives False at the end of all."""
        try:
            data = os.read(self.fd, BITE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._data += data
        if len(self._data) > 2 * TAIL_MAX_BYTES:
            self._cut()
        return bool(data)

    def _cut(self) -> None:
        """Keep what may be kept, from the beginning of a line if there is one."""
        if len(self._data) <= TAIL_MAX_BYTES:
            return
        least = len(self._data) - TAIL_MAX_BYTES
        end = self._data.find(b"\n", least - 1) + 1
        cut = end or least
        self.lost += cut
        del self._data[:cut]

    def text(self) -> bytes:
        """What is kept."""
        self._cut()
        return bytes(self._data)


class Ward:
    """One program: what it needs, and how it is to end."""

    def __init__(self, proc: int, farewell: Farewell, fds: dict[str, int], pid: int = 0) -> None:
        self.proc = proc
        self.farewell = farewell
        self.pidfd: int | None = None
        self.pid = 0
        """Its number; 0: it has not come to be."""
        self.told = False
        """It was told to end."""
        self.ended = False
        self.kill_at: float | None = None
        """When it is killed; None: it was not told to end, or is killed."""
        self.word = Word()
        """All that it has said since its daemon is gone, as one word."""
        self.tails = {name: Tail(fd) for name, fd in fds.items() if name in letters.TEXTS}
        self._words: Hearing | None = None
        if letters.NOTIFY in fds:
            self._words = Hearing(socket.socket(fileno=fds[letters.NOTIFY]), self._said)
        if letters.PIDFD in fds:
            self.is_born(pid, fds[letters.PIDFD])

    def is_born(self, pid: int, pidfd: int) -> None:
        """Its process is there."""
        self.pid, self.pidfd = pid, pidfd
        if self._words is not None:
            self._words.pid = Pid(pid)

    def _said(self, word: Word) -> None:
        self.word.ready |= word.ready
        self.word.alive |= word.alive
        if word.status is not None:
            self.word.status = word.status

    # --- while no daemon is there -------------------------------------------------------------

    @property
    def readers(self) -> dict[int, str]:
        """The descriptors from which something may come, each with its name."""
        found = {tail.fd: name for name, tail in self.tails.items()}
        if self._words is not None:
            found[self._words.fileno()] = letters.NOTIFY
        if self.pidfd is not None and not self.ended:
            found[self.pidfd] = letters.PIDFD
        return found

    def read(self, name: str) -> bool:
        """Something comes from the descriptor of this name. Gives False when nothing comes from it any more."""
        if name == letters.NOTIFY:
            assert self._words is not None
            self._words.read()
            return True
        if name == letters.PIDFD:
            self.ended = True
            self.kill_at = None
            sessions.kill_rest(self.pid)
            return False
        return self.tails[name].read()

    def tell_to_end(self, now: float) -> None:
        """Nobody has come for it."""
        if self.told or self.ended:
            return
        self.told = True
        self.kill_at = now + self.farewell.timeout_s
        self._signal(signal.Signals[self.farewell.signal])

    def kill(self) -> None:
        """It had its time."""
        self.kill_at = None
        sessions.kill(self.pid)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pidfd is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, number)

    def letter(self) -> tuple[dict[str, object], dict[str, int]]:
        """What the next daemon is told of it, and the descriptors that go with it; those in TEXTS are to be closed."""
        fds = {name: tail.fd for name, tail in self.tails.items()}
        if self._words is not None:
            fds[letters.NOTIFY] = self._words.fileno()
        if self.pidfd is not None:
            fds[letters.PIDFD] = self.pidfd
        for name, tail in self.tails.items():
            if text := tail.text():
                fds[letters.TEXTS[name]] = _memory_of(text)
        content = {
            "kind": "kept",
            "proc": self.proc,
            "pid": self.pid,
            "told": self.told,
            "ready": self.word.ready,
            "alive": self.word.alive,
            "status": self.word.status,
            "lost": {name: tail.lost for name, tail in self.tails.items() if tail.lost},
        }
        return content, fds

    def close(self) -> None:
        """Let go of it."""
        for tail in self.tails.values():
            os.close(tail.fd)
        if self._words is not None:
            self._words.close()
        if self.pidfd is not None:
            os.close(self.pidfd)


def _memory_of(text: bytes) -> int:
    fd = os.memfd_create("djsup-kept", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(text)
    return fd
