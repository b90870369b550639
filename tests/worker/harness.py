"""Real worker processes, driven over their channels as the daemon drives them.

Lays out the worker's folder, runs templates and workers, forks through templates, receives the kernel's
credentials, and hands connections from one generation to the next. Every wait is bounded.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import whitenoise

from djsup.shell.shipment import MAIN
from djsup_worker import messages, scoreboard
from djsup_worker.messages import Boot, Drain, Fork, Message, Welcome

WAIT_S = 20.0
PR_SET_CHILD_SUBREAPER = 36
PACKAGE = Path(messages.__file__).parent

MessageT = TypeVar("MessageT")


def lay_out(folder: Path, lent: dict[str, Path]) -> Path:
    """Make the worker's folder; ``lent`` maps cache tags to folders that hold the package httptools."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__main__.py").write_text(MAIN)
    shutil.copytree(PACKAGE, folder / "djsup_worker", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(whitenoise.__file__).parent, folder / "lent" / "any" / "whitenoise")
    for tag, place in lent.items():
        shutil.copytree(place / "httptools", folder / "lent" / tag / "httptools")
    return folder


def become_subreaper() -> None:
    """Have forked workers become children of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Channel:
    """The daemon's end of a channel: messages, descriptors, and the pid that the kernel vouches for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.pid = 0
        """The sender of the last message."""

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        messages.send(self.sock, message, fds or [])

    def receive(self, kind: type[MessageT], wait_s: float = WAIT_S) -> MessageT:
        """The next message, which must be of this kind."""
        self.sock.settimeout(wait_s)
        space = socket.CMSG_SPACE(struct.calcsize("3i")) + socket.CMSG_SPACE(array.array("i").itemsize)
        data, ancillary, _flags, _address = self.sock.recvmsg(messages.MESSAGE_MAX_BYTES, space)
        for level, what, value in ancillary:
            if level == socket.SOL_SOCKET and what == socket.SCM_CREDENTIALS:
                self.pid = struct.unpack("3i", value[: struct.calcsize("3i")])[0]
        assert data, f"the channel ended while {kind.__name__} was awaited"
        message = messages.decode(data)
        assert isinstance(message, kind), f"{message} came where {kind.__name__} was awaited"
        return message

    def ended(self, wait_s: float = WAIT_S) -> bool:
        """Whether the other side closes its end in time."""
        self.sock.settimeout(wait_s)
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        self.sock.close()


@dataclass
class Process:
    """A process of a site: its channel, and what it prints."""

    channel: Channel
    pid: int
    output: dict[str, int]
    """The read ends of its standard output and error."""
    printed: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b""})
    reaped: int | None = None

    def __post_init__(self) -> None:
        assert self.pid > 0, "the kernel named no sender; a signal to 0 would reach all the tests"

    def read(self, stream: str = "stderr", *, until: bytes | None = None, wait_s: float = WAIT_S) -> str:
        """What it has printed so far; with ``until``, once that was printed."""
        fd = self.output[stream]
        deadline = time.monotonic() + wait_s
        while True:
            left = (
                deadline - time.monotonic() if until is not None and until not in self.printed[stream] else 0
            )
            readable, _, _ = select.select([fd], [], [], max(0, left))
            data = os.read(fd, 65536) if readable else b""
            self.printed[stream] += data
            if not data:
                break
        text = self.printed[stream].decode(errors="replace")
        assert until is None or until.decode() in text, f"{until!r} was not printed:\n{text}"
        return text

    def exit_status(self, wait_s: float = WAIT_S) -> int:
        """Its exit status, negative for a signal; waits for it."""
        deadline = time.monotonic() + wait_s
        while self.reaped is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.reaped = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise AssertionError(f"process {self.pid} does not end:\n{self.read()}")
            else:
                with contextlib.suppress(OSError), contextlib.closing(PidFd(self.pid)) as pidfd:
                    select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
        return self.reaped

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.reaped is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self) -> None:
        self.kill()
        with contextlib.suppress(ChildProcessError):
            self.exit_status()
        self.channel.close()
        for fd in self.output.values():
            os.close(fd)
        self.output = {}


class PidFd:
    """A pidfd that can be closed."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


class Site:
    """One site as the daemon has it: listeners, a scoreboard, a handover socket, processes."""

    def __init__(self, worker_folder: Path, directory: Path, python: str, **boot: Any) -> None:
        self.worker_folder = worker_folder
        self.directory = directory
        self.python = python
        self.boot = boot
        self.environment: dict[str, str] = {}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.listeners = [self.listener]
        self.scoreboard = os.memfd_create("scoreboard")
        os.ftruncate(self.scoreboard, scoreboard.SIZE_BYTES)
        self.words = scoreboard.open_words(self.scoreboard)
        self.stacks = os.memfd_create("stacks")
        self.handover_out, self.handover_in = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.processes: list[Process] = []
        self.template: Process | None = None

    def run(self, role: str, slot: int = 0, **boot: Any) -> Process:
        """Run a template or a worker with exec, and send it its Boot."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = subprocess.Popen(
            [self.python, "-u", str(self.worker_folder), "site", "1", str(theirs.fileno())],
            cwd=self.directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error::ResourceWarning", **self.environment},
        )  # fmt: skip
        theirs.close()
        assert child.stdout is not None
        assert child.stderr is not None
        process = Process(
            Channel(ours),
            child.pid,
            {"stdout": os.dup(child.stdout.fileno()), "stderr": os.dup(child.stderr.fileno())},
        )
        child.stdout.close()
        child.stderr.close()
        child.returncode = 0  # reaped by Process, not by Popen
        self.processes.append(process)
        fields: dict[str, Any] = {
            "role": role, "site": "site", "generation": 1, "slot": slot if role == "worker" else -1,
            "directory": str(self.directory), "wsgi": "app:application", "settings": None, "threads": 1,
            "limits": {}, "health_path": None, "health_expect": 200, "health_host": "localhost",
            "listeners": [f"127.0.0.1:{self.port}" for _ in self.listeners], "orphan_grace_s": 60.0,
            **self.boot, **boot,
        }  # fmt: skip
        fds = [self.scoreboard, self.handover_in.fileno(), self.handover_out.fileno(), self.stacks]
        fds += [process.output["stdout"], process.output["stderr"]]
        fds += [each.fileno() for each in self.listeners]
        process.channel.send(Boot(**fields), fds)
        return process

    def start_worker(self, slot: int = 0, **boot: Any) -> Process:
        """A worker that boots by itself, ready to serve."""
        process = self.run("worker", slot, **boot)
        _expect(process, messages.Loaded)
        _expect(process, messages.Ready)
        return process

    def start_template(self, **boot: Any) -> Process:
        self.template = self.run("template", **boot)
        _expect(self.template, messages.Loaded)
        return self.template

    def fork(self, slot: int = 0, early: Callable[[Channel], None] = lambda _channel: None) -> Process:
        """A forked worker that has said Hello and was answered. ``early`` says something before that."""
        assert self.template is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(ours)  # before anybody can say anything: else the kernel notes no sender
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        self.template.channel.send(
            Fork(proc=7, slot=slot), [theirs.fileno(), out_write, err_write, out_read, err_read]
        )
        theirs.close()
        os.close(out_write)
        os.close(err_write)
        early(channel)
        channel.receive(messages.Hello)
        process = Process(channel, channel.pid, {"stdout": out_read, "stderr": err_read})
        self.processes.append(process)
        channel.send(Welcome())
        return process

    def fork_worker(self, slot: int = 0) -> Process:
        process = self.fork(slot)
        _expect(process, messages.Ready)
        return process

    def row(self, slot: int = 0) -> scoreboard.Row:
        row = scoreboard.read(self.words, slot)
        assert row is not None
        return row

    def wait_for(self, what: Callable[[scoreboard.Row], bool], slot: int = 0) -> None:
        """Wait until a worker's row is so; there is nothing that tells when it changes."""
        deadline = time.monotonic() + WAIT_S
        while not what(self.row(slot)):
            assert time.monotonic() < deadline, self.row(slot)
            time.sleep(0.005)

    def drain(self, process: Process, *, to: Site | None, timeout_s: float = WAIT_S) -> None:
        """Tell a worker to leave, handing its connections to another site object (a generation), or nobody."""
        process.channel.send(Drain(timeout_s=timeout_s), [to.handover_out.fileno()] if to else [])

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def close(self) -> None:
        for process in self.processes:
            process.end()
        for sock in (*self.listeners, self.handover_in, self.handover_out):
            sock.close()
        self.words.release()
        os.close(self.scoreboard)
        os.close(self.stacks)


def _expect(process: Process, kind: type[MessageT]) -> MessageT:
    try:
        return process.channel.receive(kind)
    except (AssertionError, OSError) as error:
        raise AssertionError(f"{error}\n{process.read()}") from error


def next_generation(site: Site) -> Site:
    """Another generation of a site: the same listeners, a handover socket and a scoreboard of its own."""
    other = Site(site.worker_folder, site.directory, site.python, **site.boot)
    other.listener.close()
    other.listener = socket.socket(
        fileno=os.dup(site.listener.fileno())
    )  # not dup(): that would make it block
    other.listeners = [other.listener]
    other.port = site.port
    other.environment = site.environment
    return other


# --- a client ---


@dataclass(frozen=True)
class Answer:
    """One response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for each, value in self.headers if each.lower() == name.lower()]
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else None


class Client:
    """A strict, slow-minded HTTP client over one connection: it knows exactly what it has read."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, path: str = "/", *headers: str, method: str = "GET") -> Answer:
        self.send(
            "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("latin-1")
        )
        return self.answer(head_only=method == "HEAD")

    def _more(self) -> bool:
        data = self.sock.recv(1 << 20)
        self.buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while (at := self.buffer.find(mark)) < 0:
            assert self._more(), f"the connection ended before {mark!r}: {bytes(self.buffer)!r}"
        found = self._exactly(at)
        del self.buffer[: len(mark)]
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            assert self._more(), f"the connection ended {count - len(self.buffer)} bytes too early"
        found = bytes(self.buffer[:count])
        del self.buffer[:count]
        return found

    def answer(self, *, head_only: bool = False) -> Answer:
        """Read one response, interim ones included as they are."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        answer = Answer(int(status), headers, b"")
        if head_only or answer.status < 200 or answer.status in (204, 304):
            return answer
        length = answer.header("Content-Length")
        if answer.header("Transfer-Encoding") == "chunked":
            assert length is None
            body = self._chunks()
        elif length is not None:
            body = self._exactly(int(length))
        else:
            body = self.rest()
        return Answer(answer.status, headers, body)

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := int(self._until(b"\r\n"), 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"
        return bytes(body)

    def rest(self) -> bytes:
        """All until the server closes."""
        with contextlib.suppress(ConnectionResetError):
            while self._more():
                pass
        found = bytes(self.buffer)
        self.buffer.clear()
        return found

    def closed(self, wait_s: float = WAIT_S) -> bool:
        """Whether the server closes in time, without another byte."""
        self.sock.settimeout(wait_s)
        try:
            return self.sock.recv(1) == b"" and not self.buffer
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(WAIT_S)


@contextlib.contextmanager
def client(site: Site) -> Iterator[Client]:
    with site.connect() as sock:
        yield Client(sock)


def own_httptools() -> dict[str, Path]:
    """The httptools of the Python that runs the tests, as the daemon lends it."""
    import httptools  # noqa: PLC0415

    assert httptools.__file__ is not None
    return {str(sys.implementation.cache_tag): Path(httptools.__file__).parent.parent}
