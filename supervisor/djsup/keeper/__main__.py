"""The story of a keeper's process: ``python -m djsup.keeper``, started and supervised by the daemon.

Takes what the daemon gives it and sleeps, until the daemon is gone. Then it reads what the programs print, for
``orphan_grace`` at most: a daemon that comes gets everything; else the programs are told to end, and killed in the end.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from djsup.keeper import letters
from djsup.keeper.letters import Farewell
from djsup.keeper.ward import Ward

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKERS_MAX = 8
LAST_S = 2.0
"""What was killed is gone within this time, or hangs in the kernel."""


class Keeper:
    """One keeper's process."""

    def __init__(self, channel: socket.socket, home: socket.socket, grace_s: float) -> None:
        self._channel = channel
        self._home = home
        self._grace_s = grace_s
        self._wards: dict[int, Ward] = {}
        self._selector = selectors.DefaultSelector()
        self._taken = False
        home.listen(ASKERS_MAX)  # once more: whoever connects sees that it is we who listen

    def run(self) -> int:
        """Keep until the end; the exit status."""
        self._serve()
        self._keep()
        return 0

    # --- while the daemon lives ---------------------------------------------------------------

    def _serve(self) -> None:
        """Do what the daemon says, until it is gone."""
        while True:
            try:
                letter = letters.receive(self._channel)
            except ValueError:
                continue
            if letter is None:
                return
            try:
                self._do(letter)
            except (KeyError, TypeError, ValueError):  # of another version
                letter.close()

    def _do(self, letter: letters.Letter) -> None:
        content = letter.content
        ward = self._wards.get(content.get("proc", 0))
        match content.get("kind"):
            case "grace":
                self._grace_s = content["s"]
            case "keep" if ward is None:
                farewell = Farewell(content["signal"], content["timeout_s"])
                self._wards[content["proc"]] = Ward(
                    content["proc"], farewell, letter.fds, content.get("pid", 0)
                )
                return
            case "born" if ward is not None and ward.pidfd is None:
                with suppress(OSError):
                    ward.is_born(letter.pid, os.pidfd_open(letter.pid))
            case "farewell" if ward is not None:
                ward.farewell = Farewell(content["signal"], content["timeout_s"])
            case "gone" if ward is not None:
                del self._wards[content["proc"]]
                ward.close()
            case _:
                pass
        letter.close()

    # --- when it is gone ----------------------------------------------------------------------

    def _keep(self) -> None:
        """Read in its place until another comes, or the grace is over and all programs have ended."""
        until = time.monotonic() + self._grace_s
        _silence()
        for proc, ward in list(self._wards.items()):
            if not ward.pid:  # it never came to be
                del self._wards[proc]
                ward.close()
        self._home.setblocking(False)
        self._selector.register(self._home, selectors.EVENT_READ, (None, ""))
        for ward in self._wards.values():
            for fd, name in ward.readers.items():
                self._selector.register(fd, selectors.EVENT_READ, (ward, name))
        while self._wards and not self._taken:
            now = time.monotonic()
            if now >= until:
                if all(each.ended for each in self._wards.values()) or now >= until + self._longest_s():
                    return
                self._end(now)
            self._look(min(self._deadlines(until, now)) - now)

    def _longest_s(self) -> float:
        return max(each.farewell.timeout_s for each in self._wards.values()) + LAST_S

    def _deadlines(self, until: float, now: float) -> Iterator[float]:
        yield until if now < until else now + LAST_S
        yield from (each.kill_at for each in self._wards.values() if each.kill_at is not None)

    def _end(self, now: float) -> None:
        for each in self._wards.values():
            each.tell_to_end(now)
            if each.kill_at is not None and now >= each.kill_at:
                each.kill()

    def _look(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            ward, name = key.data
            if ward is None:
                self._called()
            elif not ward.read(name):
                self._selector.unregister(key.fd)

    def _called(self) -> None:
        """Somebody asks. Only a process of our own user, or root, can reach the socket."""
        try:
            asker, _ = self._home.accept()
        except OSError:
            return
        with asker, suppress(OSError, ValueError):
            asker.settimeout(letters.WAIT_S)
            for ward in self._wards.values():
                self._give(asker, ward)
            letters.send(asker, {"kind": "all"})
            # Until it has answered, or is gone, nothing is read here: what comes meanwhile is for the other.
            asker.settimeout(None)
            answer = letters.receive(asker)
            self._taken = answer is not None and answer.content.get("kind") == "taken"

    @staticmethod
    def _give(asker: socket.socket, ward: Ward) -> None:
        content, fds = ward.letter()
        try:
            letters.send(asker, content, fds)
        finally:
            for name in letters.TEXTS.values():
                if name in fds:
                    os.close(fds[name])


def _silence() -> None:
    """Nobody reads what we print."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    for fd in (1, 2):
        os.dup2(nowhere, fd)
    os.close(nowhere)


def main() -> int:
    """Run the keeper; gives the exit status."""
    own = os.environ
    channel = socket.socket(fileno=int(own["DJSUP_KEEPER_FD"]))
    home = socket.socket(fileno=int(own["DJSUP_KEEPER_HOME_FD"]))
    for each in (channel, home):
        os.set_inheritable(each.fileno(), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Keeper(channel, home, float(own["DJSUP_KEEPER_GRACE"])).run()


if __name__ == "__main__":
    sys.exit(main())
