"""What a death costs, and what a bad neighbour costs: ``python -m benchmarks.supervision [deaths] [neighbours]``.

deaths: a site that takes a second to boot has one worker, which is killed again and again: from the SIGKILL to the
first answer of its replacement, as a client sees it. Beside gunicorn, with and without preload, where it is installed.

neighbours: one client asks site B, while site A does what a site should not. Beside the same burning of CPU by
processes that djsup has nothing to do with: what remains between the two is djsup's own.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.running import free_port
from benchmarks.workloads import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

DEATHS = 30
STEADY_S = 1.1
"""A worker lives for so long before it is killed, longer than stable_after: an early death would wait for its backoff."""
WATCHED_S = 6.0
PAUSE_S = 0.004
BURN = "while True: pass"

SLOW_TO_BOOT = """
import os, time
time.sleep(1.0)
def application(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
BAD = """
import os, time
kept = []
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/crash":
        os._exit(1)
    if path == "/leak":
        kept.append(bytearray(os.urandom(1) * 8 * 2**20))
    while path == "/block":
        time.sleep(60)
    while path == "/burn":
        pass
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@contextmanager
def folder_with(**files: str) -> Iterator[Path]:
    """A folder with an app.py in each folder named."""
    with tempfile.TemporaryDirectory(prefix="djsup-bench-") as name:
        for site, source in files.items():
            (Path(name) / site).mkdir()
            (Path(name) / site / "app.py").write_text(source)
        yield Path(name)


@contextmanager
def process(command: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers on a port, until the block ends."""
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while ask(port, timeout_s=5.0) is None:
            assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
            time.sleep(0.05)
        yield server
    finally:
        server.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()


def djsup(folder: Path, sites: dict[str, tuple[int, str]]) -> list[str]:
    """The command of a daemon for bare sites: name, port, more of its table."""
    tables = [
        f'[sites.{name}]\ndirectory = "{name}"\npython = "{sys.executable}"\nwsgi = "app:application"\n'
        f'listen = ["127.0.0.1:{port}"]\n{more}\n'
        for name, (port, more) in sites.items()
    ]
    (folder / "djsup.toml").write_text(f'runtime_dir = "{folder}/run"\n' + "\n".join(tables))
    return [sys.executable, "-m", "djsup", "start", "-c", str(folder / "djsup.toml")]


def ask(port: int, path: str = "/", timeout_s: float = 30.0) -> bytes | None:
    """One request on a connection of its own; None: it failed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


# --- deaths ----------------------------------------------------------------------------------------


def replacements_s(command: list[str], folder: Path, port: int) -> list[float]:
    """From the SIGKILL of the one worker to the first answer of the next, each time."""
    found = []
    with process(command, folder, port):
        for _ in range(DEATHS):
            time.sleep(STEADY_S)
            victim = int(ask(port) or b"0")
            begun = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            while (answer := ask(port)) is None or int(answer) == victim:
                pass
            found.append(time.monotonic() - begun)
    return found


def deaths() -> None:
    """Print a line for each server."""
    with folder_with(slow=SLOW_TO_BOOT) as folder:
        port = free_port()
        more = "workers = 1\n[sites.slow.limits]\nstable_after = 1"
        show_deaths("djsup", replacements_s(djsup(folder, {"slow": (port, more)}), folder, port))
    gunicorn = shutil.which("gunicorn") or next(iter(sorted(ROOT.glob(".cache/**/bin/gunicorn"))), None)
    if gunicorn is None:
        print("gunicorn: not installed (make bench does it)")
        return
    for options in ([], ["--preload"]):
        with folder_with(slow=SLOW_TO_BOOT) as folder:
            port = free_port()
            server = [str(gunicorn), "--chdir", "slow", "-w", "1", "-b", f"127.0.0.1:{port}", *options]
            found = replacements_s([*server, "app:application"], folder, port)
            show_deaths(" ".join(["gunicorn", *options]), found)


def show_deaths(name: str, found: list[float]) -> None:
    median, worst = statistics.median(found), max(found)
    print(
        f"{name:24} median {median * 1000:7.1f} ms   worst {worst * 1000:7.1f} ms   of {len(found)}",
        flush=True,
    )


# --- neighbours ------------------------------------------------------------------------------------


def latencies_s(port: int) -> list[float]:
    """Requests of one client on one connection, one after the other."""
    found = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    end = time.monotonic() + WATCHED_S
    while time.monotonic() < end:
        begun = time.monotonic()
        connection.request("GET", "/")
        connection.getresponse().read()
        found.append(time.monotonic() - begun)
        time.sleep(PAUSE_S)
    connection.close()
    return found


@contextmanager
def pestered(port: int, path: str, clients: int, pause_s: float) -> Iterator[None]:
    """Processes that ask a site for what hurts it, until the block ends."""
    code = (
        "import socket, sys, time\nwhile True:\n    try:\n"
        f"        with socket.create_connection(('127.0.0.1', {port})) as sock:\n"
        f"            sock.settimeout(60)\n            sock.sendall(b'GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
        f"            sock.recv(1000)\n    except OSError:\n        pass\n    time.sleep({pause_s})\n"
    )
    asking = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(clients)]
    try:
        time.sleep(1.5)
        yield
    finally:
        for each in asking:
            each.kill()
            each.wait()


@contextmanager
def burning(number: int) -> Iterator[None]:
    """Unrelated processes that burn CPU."""
    fires = [subprocess.Popen([sys.executable, "-S", "-c", BURN]) for _ in range(number)]
    try:
        yield
    finally:
        for each in fires:
            each.kill()
            each.wait()


def neighbours() -> None:
    """Print a line for each misbehaviour of site A."""
    cores = os.cpu_count() or 1
    limits = '[sites.{0}.limits]\nmax_memory = "200MiB"\nrequest_timeout = 30\n'
    misdeeds = {
        "A crash-loops": ("/crash", 1, 0.05),
        "A leaks 8 MiB a request": ("/leak", 1, 0.1),
        "A blocks all its threads": ("/block", 16, 1.0),
        f"A burns CPU in {cores} workers": ("/burn", cores, 1.0),
    }
    show_latency("B alone", _with_neighbour(limits, None))
    for name, misdeed in misdeeds.items():
        show_latency(name, _with_neighbour(limits, misdeed))
    with burning(cores):
        show_latency(f"{cores} unrelated processes burn", _with_neighbour(limits, None))


def _with_neighbour(limits: str, misdeed: tuple[str, int, float] | None) -> list[float]:
    with folder_with(a=BAD, b=BAD) as folder:
        bad, good = free_port(), free_port()
        workers = f"workers = {os.cpu_count()}\n"
        sites = {
            "a": (bad, workers + "threads = 4\n" + limits.format("a")),
            "b": (good, workers + limits.format("b")),
        }
        with process(djsup(folder, sites), folder, good):
            assert ask(bad) is not None
            if misdeed is None:
                return latencies_s(good)
            with pestered(bad, *misdeed):
                return latencies_s(good)


def show_latency(name: str, found: list[float]) -> None:
    steps = statistics.quantiles(found, n=100)
    print(
        f"{name:30} p50 {steps[49] * 1000:7.2f} ms   p99 {steps[98] * 1000:7.2f} ms   of {len(found)}",
        flush=True,
    )


def main(arguments: list[str]) -> None:
    """Measure what was named, or both."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    print(
        f"{os.cpu_count()} cores, {model[1] if model else 'unknown'}; load average {os.getloadavg()[0]:.1f} before"
    )
    if not arguments or "deaths" in arguments:
        deaths()
    if not arguments or "neighbours" in arguments:
        neighbours()


if __name__ == "__main__":
    main(sys.argv[1:])
