"""The daemon's side of the keeper: the channel to it, and what it is told of each program.

Knows what is said; which programs there are is the performer's knowledge, and whether there is to be a keeper, the
core's (``core/keeper.py``). One that takes no more messages is stuck, for it has nothing else to do: it is to be killed, and
the next one is told everything.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from djsup.keeper import letters

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from djsup.core.model import Pid, ProcId
    from djsup.keeper.letters import Farewell


PATIENCE_S = 2.0
"""A new keeper hears within this time."""


class KeeperLine:
    """What connects the daemon and its keeper."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        self._stuck: Callable[[], object] = lambda: None

    def open(self, channel: socket.socket, stuck: Callable[[], object]) -> None:
        """There is a keeper at the other end; the channel stays its owner's. ``stuck`` is called if it is."""
        self._channel, self._stuck = channel, stuck

    @contextmanager
    def patience(self) -> Iterator[None]:
        """For much at a time, to one that has only just begun: it is waited for, for a moment."""
        channel = self._channel
        assert channel is not None
        channel.settimeout(PATIENCE_S)
        try:
            yield
        finally:
            channel.setblocking(False)

    def close(self) -> None:
        """It is gone."""
        self._channel = None

    def keep(self, proc: ProcId, farewell: Farewell, fds: Mapping[str, int], pid: Pid | None = None) -> bool:
        """Have a program kept, one that runs or one that is about to. Gives whether it is."""
        content = {"kind": "keep", "proc": proc, "pid": pid or 0}
        return self._say({**content, "signal": farewell.signal, "timeout_s": farewell.timeout_s}, fds)

    def announcement(self, proc: ProcId) -> tuple[int, bytes] | None:
        """What a program is to say as it comes to be, and on which descriptor."""
        return None if self._channel is None else (self._channel.fileno(), letters.born(proc))

    def gone(self, proc: ProcId) -> None:
        """A program has ended, or never came to be."""
        self._say({"kind": "gone", "proc": proc})

    def change(self, proc: ProcId, farewell: Farewell) -> None:
        """A program is to be ended otherwise."""
        self._say(
            {"kind": "farewell", "proc": proc, "signal": farewell.signal, "timeout_s": farewell.timeout_s}
        )

    def grace(self, seconds: float) -> None:
        """So long programs outlive the daemon."""
        self._say({"kind": "grace", "s": seconds})

    def _say(self, content: Mapping[str, object], fds: Mapping[str, int] | None = None) -> bool:
        if self._channel is None:
            return False
        try:
            letters.send(self._channel, content, fds)
        except (BlockingIOError, TimeoutError):
            stuck = self._stuck
            self.close()
            stuck()
            return False
        except OSError:
            return False
        return True
