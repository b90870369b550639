"""The servers: how each is installed, started and reloaded, and which processes are its workers.

Knows each server's own options and nothing of load or measurement. All listen on loopback only.
"""

import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tools.interpreters import this_one
from tools.virtualenv import Virtualenv

from benchmarks.workloads import ROOT, Workload

START_S = 30.0
"""How long a server may take to answer its first request, in seconds."""
RELOAD_S = 30.0
"""How long a reload may take, in seconds."""
STOP_S = 10.0


class NotRunning(Exception):
    """A server could not be started; the others can still be measured."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server in one way of running it."""

    name: str
    requirement: str
    """What pip installs; empty for djsup itself."""
    options: tuple[str, ...] = ()
    has_template: bool = False
    """Whether one process that is no worker holds the application for all."""

    @property
    def environment(self) -> Path:
        """The virtualenv of its own."""
        return ROOT / ".cache/bench" / self.requirement.partition("=")[0].rstrip("><~")

    def install(self) -> None:
        """Make its virtualenv, with what the example site needs. Quick when it is there."""
        if not self.requirement:
            return
        needs = ROOT / "examples/blog/requirements.txt"
        Virtualenv(
            path=self.environment,
            log=ROOT / ".cache/log/bench.log",
            install=(self.requirement, "-r", str(needs)),
            directory=ROOT,
            sources=(needs, Path(__file__)),
        ).prepare(this_one())

    @contextmanager
    def running(self, workload: Workload, workers: int) -> Iterator["Running"]:
        """Run it with a number of workers until the block ends; yields when it answers.

        Raises:
            NotRunning: it does not answer in time; the text has the end of its log.
        """
        with tempfile.TemporaryDirectory(prefix="djsup-bench-") as folder, closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
            free.close()
            log = Path(folder, "log")
            with log.open("wb") as out:
                process = subprocess.Popen(
                    self.command(workload, workers, port, Path(folder)),
                    cwd=workload.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            running = Running(self, psutil.Process(process.pid), workers, port, workload.path, Path(folder))
            try:
                running.wait_until_ready(process, log)
                yield running
            finally:
                running.stop(process)

    def command(self, workload: Workload, workers: int, port: int, folder: Path) -> list[str]:
        """The command line that runs it."""
        address = f"127.0.0.1:{port}"
        programs = self.environment / "bin"
        match self.requirement.partition("=")[0].rstrip("><~"):
            case "":
                config = folder / "djsup.toml"
                config.write_text(_djsup_config(workload, workers, address, folder))
                return [str(ROOT / ".venv/bin/djsup"), "start", "-c", str(config)]
            case "gunicorn":
                fixed = ["-b", address, "-w", str(workers), "--keep-alive", "15", "--log-level", "error"]
                return [str(programs / "gunicorn"), *fixed, *self.options, workload.wsgi]
            case "granian":
                fixed = ["--interface", "wsgi", "--http", "1", "--host", "127.0.0.1", "--port", str(port)]
                several = ["--workers", str(workers), "--no-ws", "--log-level", "error"]
                return [str(programs / "granian"), *fixed, *several, *self.options, workload.wsgi]
            case "uwsgi":
                fixed = ["--http11-socket", address, "--processes", str(workers), "--module", workload.wsgi]
                quiet = ["--master", "--need-app", "--die-on-term", "--disable-logging"]
                return [str(programs / "uwsgi"), *fixed, *quiet, *self.options]
            case other:
                raise ValueError(other)


SERVERS = (
    Server("djsup", "", has_template=True),
    Server("gunicorn gthread", "gunicorn>=27,<28", ("-k", "gthread", "--threads", "4")),
    Server("gunicorn sync", "gunicorn>=27,<28", ("-k", "sync")),
    Server("granian", "granian>=2.5,<3", ("--blocking-threads", "1")),
    Server("uWSGI", "uwsgi>=2.0.31,<2.1"),
)


@dataclass(slots=True)
class Running:
    """A server that runs."""

    server: Server
    process: psutil.Process
    workers: int
    port: int
    path: str
    folder: Path
    _known: set[int] = field(default_factory=set)

    @property
    def url(self) -> str:
        """What is asked for."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def processes(self) -> list[psutil.Process]:
        """Every process of it, the first one that was started at the head; that one alone when it has ended."""
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [self.process]

    def application_pids(self) -> set[int]:
        """Its processes that hold the application: all but the one that watches over them."""
        return {each.pid for each in self.processes()[1:] if _lives(each)}

    def expected(self) -> int:
        """How many processes hold the application when it is at rest."""
        return self.workers + self.server.has_template

    def wait_until_ready(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Wait until it answers and has all its processes.

        Raises:
            NotRunning: it ended, or did not answer in time.
        """
        end = time.monotonic() + START_S
        while time.monotonic() < end and process.poll() is None:
            if len(self.application_pids()) >= self.expected() and self._answers():
                return
            time.sleep(0.05)
        text = log.read_text(errors="replace")[-2000:]
        raise NotRunning(f"{self.server.name} does not answer:\n{text}")

    def reload(self) -> bool:
        """Load the application anew, and wait until only new processes are there. True when it was done."""
        old = self.application_pids()
        if not self.server.requirement:
            command = [str(ROOT / ".venv/bin/djsup"), "reload", "-c", str(self.folder / "djsup.toml")]
            done = subprocess.run(command, capture_output=True, timeout=RELOAD_S, check=False)
            return done.returncode == 0
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + RELOAD_S
        while time.monotonic() < end:
            now = self.application_pids()
            if not now & old and len(now) >= self.expected():
                return True
            time.sleep(0.02)
        return False

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End all its processes, the patient way first."""
        family = self.processes() if process.poll() is None else []
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for each in family[1:]:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _djsup_config(workload: Workload, workers: int, address: str, folder: Path) -> str:
    return f"""
runtime_dir = "{folder}/run"

[sites.bench]
directory = "{workload.directory}"
python = "{workload.python}"
wsgi = "{workload.wsgi}"
listen = ["{address}"]
workers = {workers}

[sites.bench.reload]
keep_previous = 0
"""
