"""A tap between a proxy and djsup: sees what the proxy sends on connections that it has kept, and when.

djsup ends idle connections as ever, but the proxy does not learn of it from the tap. So the moment in which a server ends
a connection and its proxy sends a request on it, microseconds in reality, lasts here until the proxy gives it up by itself.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Reuse:
    """A request on a connection that has had an answer before."""

    method: str
    idle_s: float
    """Since the last byte of the answer before."""


@dataclass
class Tap:
    """``where`` is listened on, a Unix socket or a port of this machine; ``to`` is djsup's port."""

    where: Path | int
    to: int
    cuts: str = ""
    """Reused connections are closed when a request of this method comes, as djsup would close an idle one just then."""
    reuses: list[Reuse] = field(default_factory=list)
    cut: int = 0

    def __enter__(self) -> Self:
        if isinstance(self.where, Path):
            self._door = socket.socket(socket.AF_UNIX)
            self._door.bind(str(self.where))
            self._door.listen()
        else:
            self._door = socket.create_server(("127.0.0.1", self.where))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.shutdown(socket.SHUT_RDWR)  # close alone would not wake who waits in accept
        self._door.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                proxy, _ = self._door.accept()
                threading.Thread(target=self._relay, args=(proxy,), daemon=True).start()

    def _relay(self, proxy: socket.socket) -> None:
        answered_at: float | None = None
        with proxy, socket.create_connection(("127.0.0.1", self.to)) as djsup, suppress(OSError):
            waits_for = [proxy, djsup]
            while True:
                ready, _, _ = select.select(waits_for, [], [])
                if djsup in ready:
                    data = djsup.recv(65536)
                    if data:
                        proxy.sendall(data)
                        answered_at = time.monotonic()
                    else:
                        waits_for.remove(djsup)  # the proxy hears nothing of it
                    continue
                data = proxy.recv(65536)
                if data and answered_at is not None:
                    reuse = Reuse(data.split(b" ", 1)[0].decode(), time.monotonic() - answered_at)
                    self.reuses.append(reuse)
                    answered_at = None
                    if reuse.method == self.cuts:
                        self.cut += 1
                        return
                if not data or djsup not in waits_for:
                    return
                djsup.sendall(data)
