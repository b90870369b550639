"""Starts the real dashboard process as the daemon does: environment, inherited socket, nothing else."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import djsup_web

TOKEN = "a-token-only-for-tests-6f1d"
WAIT_S = 20.0
SOURCES = Path(djsup_web.__file__).parents[2]


@dataclass
class Dashboard:
    """A running dashboard."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    token: str = TOKEN


@contextmanager
def dashboard_process(
    control: Path, *, listener: socket.socket | None = None, **variables: str
) -> Iterator[Dashboard]:
    """The dashboard on a free port, or on ``listener``; ended afterwards."""
    own = listener is None
    if listener is None:
        listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{SOURCES / 'supervisor'}:{SOURCES / 'web_ui'}",
        "PYTHONWARNINGS": "error",
        "DJSUP_CONTROL": str(control),
        "DJSUP_DASHBOARD_LISTEN": f"127.0.0.1:{port}",
        "DJSUP_DASHBOARD_FD": str(listener.fileno()),
        "DJSUP_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "DJSUP_DAEMON_PID": str(os.getpid()),
        **variables,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "djsup_web"], env=environment, pass_fds=(listener.fileno(),)
    )
    try:
        _answers(port)
        yield Dashboard(f"http://127.0.0.1:{port}", port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if own:
            listener.close()


def _answers(port: int) -> None:
    # The socket listens already: the question waits in its queue until the dashboard takes it.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", "/login")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
