"""The check before the start: does every site load, can every address be listened on.

Runs each site's interpreter on the worker's folder by the real protocol, as a template that never
forks, in the site's directory, with its environment and as its user; nothing is served and nothing
stays. An address is tried with a bind that is taken back.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from djsup import jails, launch
from djsup.core.model import AddressKind
from djsup.shell import processes, shipment, sockets
from djsup_worker import messages, scoreboard

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from djsup.core.model import Address, Settings, SiteName, SiteSettings

OUTPUT_LINES = 50
"""Lines of what a site printed that are shown with its error."""
OUTPUT_MAX_BYTES = 64 * 1024
AT_A_TIME = 2
"""Sites that are loaded at one time: loading is work for the processor, and the machine may be serving."""
END_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """How one site loaded."""

    site: str
    interpreter: str
    error: str | None = None
    """Why it did not load; None when it did."""
    details: str = ""
    """The traceback, or what it printed last."""
    python: str = ""
    django: str = ""
    wsgi: str = ""
    settings: str = ""
    boot_s: float = 0.0
    unsafe: tuple[str, ...] = ()
    """Why it can't be forked from a template, a sentence each."""


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """Whether one address can be listened on."""

    address: str
    owner: str
    """The site, or ``dashboard``."""
    error: str | None = None
    held: bool = False
    """The running daemon listens on it already."""


def check_sites(settings: Settings) -> Iterator[SiteCheck]:
    """Load every site, two at a time; the results in the order of the settings.

    Raises:
        OSError: the worker's folder can't be laid out.
    """
    with ExitStack() as cleanup:
        folder = Path(tempfile.mkdtemp(prefix="djsup-check-"))
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # the sites' users read it
        worker = shipment.lay_out(folder / "worker")
        loaders = cleanup.enter_context(ThreadPoolExecutor(AT_A_TIME))
        yield from loaders.map(lambda site: _with_programs(site, check_site(site, worker)), settings.sites)


def _with_programs(site: SiteSettings, found: SiteCheck) -> SiteCheck:
    """A site that loads, and one of whose programs is not there, is not as it should be."""
    for program in site.programs if found.error is None else ():
        try:
            launch.command(site, program, 0, stdout=-1, stderr=-1)
        except processes.CannotRun as error:
            return replace(found, error=f"program {program.name} cannot be run: {error}")
    return found


def check_site(site: SiteSettings, worker: Path) -> SiteCheck:
    """Load one site as its template would; bounded by its ``boot_timeout``."""
    with ExitStack() as cleanup:
        ours, theirs = (
            cleanup.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        )
        output = cleanup.enter_context(tempfile.TemporaryFile())
        try:
            process = _run(site, worker, theirs, output.fileno())
        except processes.CannotRun as error:
            return SiteCheck(site.name, site.python, error=str(error))
        pidfd = os.pidfd_open(process.pid)
        cleanup.callback(os.close, pidfd)
        cleanup.callback(_end, process, pidfd)
        theirs.close()
        started = time.monotonic()
        try:
            _boot(site, ours)
            answer = _wait(ours, started + site.limits.boot_timeout_s)
        except TimeoutError:
            late = f"did not load within boot_timeout ({site.limits.boot_timeout_s:g} s)"
            return SiteCheck(site.name, site.python, error=late, details=_tail(output.fileno()))
        except (BrokenPipeError, ConnectionResetError):
            answer = None
        except (OSError, messages.BadMessage) as error:
            broken = f"its channel broke: {error}"
            return SiteCheck(site.name, site.python, error=broken, details=_tail(output.fileno()))
        match answer:
            case messages.Loaded():
                return SiteCheck(
                    site.name,
                    site.python,
                    python=answer.python,
                    django=answer.django,
                    wsgi=answer.wsgi,
                    settings=answer.settings,
                    boot_s=answer.boot_s,
                    unsafe=tuple(answer.unsafe),
                )
            case messages.LoadFailed():
                return SiteCheck(site.name, site.python, error=answer.error, details=answer.traceback)
            case _:
                died = f"ended before it had loaded ({_how(process, pidfd)})"
                return SiteCheck(site.name, site.python, error=died, details=_tail(output.fileno()))


def check_addresses(settings: Settings, held: Sequence[str]) -> Iterator[AddressCheck]:
    """Try every address; those in ``held`` belong to the daemon that runs, and are left alone."""
    wanted: list[tuple[Address, str]] = [
        (address, site.name) for site in settings.sites for address in site.listen
    ]
    wanted += [(address, "router") for address in settings.shared]
    if settings.dashboard is not None:
        wanted.append((settings.dashboard.listen, "dashboard"))
    for address, owner in wanted:
        if str(address) in held:
            yield AddressCheck(str(address), owner, held=True)
        else:
            yield AddressCheck(str(address), owner, error=_try(address))


def _try(address: Address) -> str | None:
    if address.kind is AddressKind.FD:
        return None
    listeners = sockets.Listeners()
    try:
        listeners.bind(address)
    except sockets.CannotListen as error:
        return str(error)
    finally:
        listeners.close_all()
    return None


def _run(site: SiteSettings, worker: Path, channel: socket.socket, output: int) -> subprocess.Popen[bytes]:
    return processes.start(
        jails.command_of(site, worker, channel.fileno(), 0, output, output, _Surroundings(worker))
    )


class _Surroundings:
    """What a site has around it while it is checked."""

    def __init__(self, worker: Path) -> None:
        self._tmp = worker.with_name("tmp")

    def private_tmp(self, _site: SiteName) -> str:
        """An empty folder that stands in for /tmp."""
        self._tmp.mkdir(exist_ok=True)
        self._tmp.chmod(0o1777)
        return str(self._tmp)

    def control_group(self, _site: SiteSettings) -> None:
        """None: the group is the daemon's to make, and often not to be had from a shell."""


def _boot(site: SiteSettings, channel: socket.socket) -> None:
    """Tell the process what it is: a template without listeners."""
    with ExitStack() as cleanup:
        memory = os.memfd_create(f"djsup-check-{site.name}", os.MFD_CLOEXEC)
        cleanup.callback(os.close, memory)
        os.ftruncate(memory, scoreboard.SIZE_BYTES)
        receiving, sending = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        cleanup.enter_context(receiving)
        cleanup.enter_context(sending)
        receiving.setblocking(False)
        nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        cleanup.callback(os.close, nowhere)
        boot = messages.Boot(
            role="template",
            site=site.name,
            generation=0,
            slot=-1,
            directory=site.directory,
            wsgi=site.wsgi,
            settings=site.settings,
            threads=site.threads,
            limits=asdict(site.limits),
            health_path=None,
            health_expect=site.health.expect,
            health_host="localhost",
            orphan_grace_s=0.0,
            static={each.prefix: {"path": each.path, "changes": each.changes} for each in site.static},
            tls_listeners=[str(address) for address in (*site.tls_listen, *site.shared_tls)],
        )
        # Nobody asks this process for its stacks: any memory will do for them.
        fds = (memory, receiving.fileno(), sending.fileno(), memory, nowhere, nowhere)
        messages.send(channel, boot, fds)


def _wait(channel: socket.socket, deadline: float) -> messages.Message | None:
    """The process's first message; None when it is gone.

    Raises:
        TimeoutError: it says nothing.
    """
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError
    received = messages.receive(channel)
    if received is None:
        return None
    message, descriptors = received
    for descriptor in descriptors:
        os.close(descriptor)
    return message


def _end(process: subprocess.Popen[bytes], pidfd: int) -> None:
    """End the process; what it started in its session goes with it."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    _wait_for_end(pidfd)
    # Not reaped yet, so that its number still is its session's and nobody else's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(END_TIMEOUT_S)


def _wait_for_end(pidfd: int) -> None:
    """Wait until the process has ended, END_TIMEOUT_S at most, and leave it to be reaped."""
    ending = select.poll()
    ending.register(pidfd, select.POLLIN)  # pidfd_open(2): readable when the process has ended
    ending.poll(END_TIMEOUT_S * 1000)


def _tail(output: int) -> str:
    """The last lines that a process printed."""
    size = os.fstat(output).st_size
    content = os.pread(output, OUTPUT_MAX_BYTES, max(0, size - OUTPUT_MAX_BYTES))
    return "\n".join(content.decode(errors="replace").splitlines()[-OUTPUT_LINES:])


def _how(process: subprocess.Popen[bytes], pidfd: int) -> str:
    """How a process ended that has closed its channel; it stays to be reaped."""
    _wait_for_end(pidfd)
    end = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if end is None:
        return "it closed its channel and runs on"
    if end.si_code == os.CLD_EXITED:
        return f"exit status {end.si_status}"
    return f"killed by {signal.Signals(end.si_status).name}"
