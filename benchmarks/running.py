"""A server that runs: starting it, its processes, what they have used, its reload and its end."""

import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import ours
from benchmarks.launch import Certificate, Launch, make_certificate
from benchmarks.load import closes, trusting
from benchmarks.servers import Server
from benchmarks.workloads import STATIC_URL, Session

START_S = 30.0
"""How long a server may take to answer its first request, in seconds."""
RELOAD_S = 30.0
"""How long a reload may take, in seconds."""
STOP_S = 10.0
LOG_END = 2000
"""How many characters of a log are shown."""


class NotRunning(Exception):
    """A server could not be started; the others can still be measured."""


@dataclass(slots=True)
class Running:
    """A server that runs."""

    server: Server
    launch: Launch
    process: psutil.Process

    def url(self, path: str) -> str:
        """Where a path is asked for."""
        return f"{'https' if self.launch.tls else 'http'}://{self.launch.address}{path}"

    def closes(self, path: str) -> bool:
        """Whether it closes a connection when it is asked to."""
        return closes("127.0.0.1", self.launch.port, path, trusting() if self.launch.tls else None)

    def processes(self) -> list[psutil.Process]:
        """Every process of it, the first one that was started at the head; that one alone when it has ended."""
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [self.process]

    def application_pids(self) -> set[int]:
        """Its processes that hold the application: all but the one that watches over them."""
        family = self.processes()
        return {each.pid for each in (family if self.server.one_process else family[1:]) if _lives(each)}

    def expected(self) -> int:
        """How many processes hold the application when it is at rest."""
        return self.launch.workers + self.server.extra

    def cpu_s(self) -> float:
        """CPU time that all its processes have used, ended threads included, in seconds, to the nanosecond.

        /proc/PID/stat counts in hundredths of a second, too coarse for a workload that waits. The clock of another
        process is clock_getcpuclockid(3), which on Linux is this number (include/linux/posix-timers.h).
        """
        total = 0.0
        for process in self.processes():
            with suppress(OSError):  # it has ended meanwhile
                total += time.clock_gettime((~process.pid << 3) | 2)
        return total

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
        text = log.read_text(errors="replace")[-LOG_END:]
        raise NotRunning(f"it does not answer:\n{text}")

    def reload(self) -> bool:
        """Load the application anew, and wait until only new processes are there. True when it was done."""
        old = self.application_pids()
        if self.server.ours:
            command = ours.reload(str(self.launch.folder))
            done = subprocess.run(command, capture_output=True, timeout=RELOAD_S, check=False)
            return done.returncode == 0
        self.process.send_signal(self.server.reload_signal)
        end = time.monotonic() + RELOAD_S
        while time.monotonic() < end:
            now = self.application_pids()
            if not now & old and len(now) >= self.expected():
                return True
            time.sleep(0.02)
        return False

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End all its processes, the patient way first; the first of them may have handed over to another."""
        family = self.processes() if self.process.is_running() else []
        with suppress(psutil.NoSuchProcess):
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_S) if self.process.pid != process.pid else None
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for each in family[1:]:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def _answers(self) -> bool:
        url = self.url(self.launch.application.check)
        try:
            with urllib.request.urlopen(url, timeout=2, context=trusting()) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def running(server: Server, session: Session) -> Iterator[Running]:
    """Run a server until the block ends; yields when it answers.

    Raises:
        NotRunning: it does not answer in time; the text has the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="djsup-bench-") as name:
        folder = Path(name)
        launch = Launch(
            application=session.application,
            workers=session.workers,
            threads=server.threads or session.threads,
            port=free_port(),
            folder=folder,
            environment=server.environment,
            tls=_certificate(folder) if session.tls else None,
            keep_alive=session.keep_alive,
            static=any(each.path.startswith(f"{STATIC_URL}/") for each in session.workloads),
        )
        log = folder / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                server.command(launch),
                cwd=session.application.directory,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                stdout=out,
                stderr=out,
            )
        runs = Running(server, launch, psutil.Process(process.pid))
        try:
            runs.wait_until_ready(process, log)
            yield runs
        finally:
            runs.stop(process)


def _certificate(folder: Path) -> Certificate:
    """A certificate for the server.

    Raises:
        NotRunning: openssl makes none.
    """
    try:
        return make_certificate(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotRunning(f"no certificate for TLS: {error}") from error


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
