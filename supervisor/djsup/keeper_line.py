"""The daemon's side of the keeper: the channel to it, and what it is told of each program.

Knows what is said; which programs there are is the performer's knowledge, and whether there is to be a keeper, the
core's (``core/keeper.py``). A keeper that does not take a message is dead or stuck: the next one is told everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from djsup.keeper import letters

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from djsup.core.model import Pid, ProcId
    from djsup.keeper.letters import Farewell


class KeeperLine:
    """What connects the daemon and its keeper."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None

    def open(self, channel: socket.socket) -> None:
        """There is a keeper at the other end; the channel stays its owner's."""
        self._channel = channel

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
        except OSError:
            return False
        return True
