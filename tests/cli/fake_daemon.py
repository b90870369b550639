"""A daemon that answers what a test tells it to, on a real control socket."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

Answers = dict[str, "Callable[[dict[str, Any]], Iterable[Any]]"]


class FakeDaemon:
    """Answers each verb with the lines that its function gives: dicts, or bytes to be sent as they are.

    A line ``{"result": ...}`` becomes ``{"ok": true, "result": ...}``. A function that waits for
    ``leaving`` keeps its connection open without a word.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir
        self.asked: list[dict[str, Any]] = []
        self.answers: Answers = {}
        self.leaving = threading.Event()
        self.connections_closed = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        runtime_dir.mkdir(parents=True, exist_ok=True)
        self._listener.bind(str(runtime_dir / "control.sock"))
        self._listener.listen()
        self._start(self._accept)

    def answer(self, verb: str, *lines: Any) -> None:
        """Answer a verb with these lines."""
        self.answers[verb] = lambda _request: lines

    def stop(self) -> None:
        """Close everything; the socket's file stays, as after a daemon that was killed."""
        self.leaving.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reading:
            request = json.loads(reading.readline())
            self.asked.append(request)
            try:
                for line in self.answers[request["verb"]](request):
                    connection.sendall(line if isinstance(line, bytes) else _encoded(line))
            except (BrokenPipeError, ConnectionResetError):
                pass
        self.connections_closed.release()


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps({"ok": True, **line} if "result" in line else line).encode() + b"\n"
