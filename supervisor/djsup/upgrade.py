"""The upgrade: the daemon's program is replaced by the one that is installed, in the same process (execve(2)).

The pid stays, so children stay children, and systemd and pid files keep working; sockets, channels and pipes stay open;
workers accept by themselves all the while. What the daemon knows is handed over (``bequest.py``).

Every way in which this can end:

* The new program can't go on: it is missing, does not import, refuses the configuration, can't read what is handed
  over, or exits for whatever reason. This is proved beforehand: it is run as a child that gets what it would get, does
  all that it would do short of acting, and answers. The old program goes on, and the event says why.
* execve(2) itself fails. The old program goes on.
* The new program, running, can't read what it was proved to read: it begins as a daemon does whose predecessor was
  killed, closes all channels, and adopts who calls (``adoption.py``), and the programs that the keeper gives it.
* It is killed, or ends by a mistake of ours. The sites live for ``orphan_grace``, and the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from djsup import __version__, bequest
from djsup.core.actions import Level
from djsup.core.events import Replaced, SitesAdopted
from djsup.core.fleet import Fleet
from djsup.core.model import Pid
from djsup.keeper import letters
from djsup.shell import processes, sealed, shipment, signals, succession
from djsup.shell.control import Refused
from djsup.shell.estates import Estates
from djsup.shell.runtime import ESTATES, KEEPER
from djsup.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djsup.bequest import Bequest
    from djsup.core.events import Exit
    from djsup.core.model import Settings
    from djsup.observer import Observer
    from djsup.performer import Performer

PROOF_S = 60.0
"""How long the new program may take to prove itself, on a machine that has much to do."""
ANSWER_S = 30.0
"""How long those are waited for who wait for the outcome of a reload."""
SAID_MAX_BYTES = 32 * 1024
"""What is kept of what it prints; the end, for it says what went wrong."""
PROOF = "worker.proof"
"""The folder into which it lays out the worker, to see whether that works."""
OTHER_MESSAGES = "djsup: upgraded to a version that speaks otherwise with its workers"
"""Who asks for the reload that follows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an upgrade has ended."""

    number: int
    before: str
    """The version of the program before, and (below) of the one that goes on."""
    now: str
    sites: int = 0
    workers: int = 0
    """Workers that were kept."""
    took_s: float = 0.0
    """From the moment in which the old program stopped to act until the new one did."""
    error: str = ""
    """Why the old program goes on; empty: the new one does."""

    @property
    def text(self) -> str:
        """One line for people."""
        sites, workers = _number(self.sites, "site"), _number(self.workers, "worker")
        took = f"took {self.took_s * 1000:.0f} ms"
        return f"djsup {self.before} → {self.now}, {sites}, {workers} kept, {took}"

    def to_json(self) -> dict[str, Any]:
        """As the control socket tells it."""
        return {**asdict(self), "text": self.text}


def _number(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


class Daemon(Protocol):
    """What an upgrade needs of the daemon."""

    performer: Performer
    observer: Observer
    rereading: asyncio.Lock
    """Held while the configuration is read and handled."""

    def may_upgrade(self) -> str:
        """Why its program can't be replaced now; empty: it can."""

    def bequeath(self, by: str, number: int) -> Bequest:
        """All that the new program needs to know."""

    async def answer(self) -> None:
        """Take no more questions, and answer those that can be answered soon."""

    def hold(self) -> str:
        """Act no more: what has happened is handled, and what was said is written. Gives ``may_upgrade``."""

    def release(self) -> None:
        """Act again."""

    @property
    def words(self) -> tuple[str, ...]:
        """How the daemon was started: the options of ``djsup start``."""

    @property
    def variables(self) -> dict[str, str]:
        """What was taken out of its environment."""


class Upgrades:
    """The upgrades of one daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.last: Outcome | None = None
        self._daemon = daemon
        self._number = 0
        self._runs = False
        self._answering = 0
        self._answered = asyncio.Event()
        self._answered.set()

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Somebody waits for the outcome of a reload: the program that he has asked is to answer, if it can."""
        self._answering += 1
        self._answered.clear()
        try:
            yield
        finally:
            self._answering -= 1
            if not self._answering:
                self._answered.set()

    async def prove(self, by: str) -> tuple[int, str]:
        """Have the installed program prove itself. Gives the number of this upgrade, and the new version.

        Raises:
            Refused: it can't go on; this is said.
        """
        if self._runs:
            raise Refused("an upgrade runs already")
        self._runs = True
        try:
            if why := self._daemon.may_upgrade():
                raise Refused(why)
            version = await self._prove(by)
        except Refused as refused:
            self._refused(str(refused), "\n".join(refused.problems))
            self._runs = False
            raise
        except BaseException:
            self._runs = False
            raise
        return self._number + 1, version

    async def go(self, by: str) -> None:
        """Replace the program, once no new settings are on their way. ``prove`` has come before.

        A reload that takes longer than ANSWER_S goes on in the new program, and only its report is not heard.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), ANSWER_S)
        async with self._daemon.rereading:
            await self._daemon.answer()
            self._replace(by)

    def succeeded(self, left: Bequest) -> None:
        """This is the new program, and it acts."""
        self._number = left.number
        self.last = found = outcome(left)
        self._daemon.performer.say("upgraded", found.text, by=left.by)

    def _refused(self, reason: str, details: str = "") -> None:
        text = f"djsup {__version__} goes on, its program is not replaced: {reason}"
        self._daemon.performer.say("upgrade-refused", text, Level.ERROR, details=details)

    # --- the proof ----------------------------------------------------------------------------

    async def _prove(self, by: str) -> str:
        text = self._daemon.bequeath(by, self._number + 1)
        out, err = (os.memfd_create(f"djsup-proof-{name}", os.MFD_CLOEXEC) for name in ("out", "err"))
        left = sealed.seal("djsup-bequest", text.write())
        try:
            end = await self._run([*self._command(left), "--prove"], (left, *text.fds), out, err)
            said, printed = _printed(out).strip(), _printed(err).strip()
        finally:
            for fd in (out, err, left):
                os.close(fd)
        with suppress(ValueError, KeyError, TypeError, IndexError):
            if end is not None and end.status == 0:
                return str(json.loads(said.splitlines()[-1])["version"])
        lines = [line.removeprefix("djsup: ") for line in printed.splitlines()]
        raise Refused(f"the installed one {_why(end, lines)}", problems=tuple(lines[:-1]))

    async def _run(self, arguments: Sequence[str], fds: tuple[int, ...], out: int, err: int) -> Exit | None:
        """Run it to its end; None: it took too long."""
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        watched = self._daemon.performer.processes
        command = processes.Command(
            arguments,
            "/",
            dict(os.environ),
            processes.Identity(),
            out,
            err,
            fds,
            whole_group=True,
            orphan_signal="SIGKILL",
            turn=Turn.LONG,
        )
        try:
            pid = watched.run(command, ended.set_result)
        except processes.CannotRun as error:
            raise Refused(f"the installed one cannot be run: {error}") from error
        try:
            async with asyncio.timeout(PROOF_S):
                return await asyncio.shield(ended)
        except TimeoutError:
            return None
        finally:
            if not ended.done():
                watched.kill(pid, "SIGKILL")

    def _command(self, left: int) -> list[str]:
        # Not by the script that started us, which may be gone: by its interpreter, as every installation has it. -P:
        # the folder in which the daemon happens to be is none to import from.
        return [sys.executable, "-P", "-m", "djsup", "start", *self._daemon.words, "--succeed", str(left)]

    # --- the change ---------------------------------------------------------------------------

    def _replace(self, by: str) -> None:
        daemon, number = self._daemon, self._number + 1
        why = daemon.hold()
        left, series = -1, None
        try:
            if not why:
                series = self._series()
                text = replace(daemon.bequeath(by, number), series=series)
                left = sealed.seal("djsup-bequest", text.write())
                environ = {**os.environ, **daemon.variables}
                succession.replace(self._command(left), environ, (left, *text.fds), signals.HEARD)
        except OSError as error:
            why = f"the installed one cannot be run: {error}"
        finally:
            # Still here: so nothing has changed.
            if left >= 0:
                os.close(left)
            if series is not None:
                os.close(series)
            daemon.release()
            self._runs = False
            self._number = number
        self.last = Outcome(number, __version__, __version__, error=why)
        self._refused(why)

    def _series(self) -> int | None:
        """What was measured, for the next program; None: there is no memory for it, and then it has a gap."""
        with suppress(OSError):
            return sealed.seal("djsup-series", self._daemon.observer.recorder.left())
        return None


def _printed(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, SAID_MAX_BYTES, max(0, size - SAID_MAX_BYTES)).decode("utf-8", "replace")


def _why(end: Exit | None, lines: list[str]) -> str:
    last = lines[-1] if lines else "it has printed nothing"
    if end is None:
        return f"has not answered within {PROOF_S:g} s: {last}"
    if end.status == 0:
        return f"has not answered: {last}"
    how = f"status {end.status}" if end.signal is None else f"signal {end.signal}"
    return f"cannot go on ({how}): {last}"


# --- in the new program -----------------------------------------------------------------------------


def prove(fd: int, settings: Settings) -> None:
    """Do whatever the new program will do, short of acting; answer on standard output.

    Raises:
        bequest.Unreadable: it can't read what is handed over.
        OSError: it can't write what it will have to.
    """
    from djsup import daemon  # noqa: F401, PLC0415 -- whether it imports is the question

    left = bequest.read(fd)
    inherited(left)
    fleet = Fleet()
    try:
        fleet.handle(succeed(left), time.monotonic())
    except Exception as error:
        raise bequest.Unreadable(f"this state of the sites is not possible here: {error!r}") from error
    fleet.snapshot(time.monotonic())
    folder = Path(settings.runtime_dir) / PROOF
    try:
        shipment.lay_out(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps({"version": __version__}) + "\n")


def succeed(left: Bequest) -> SitesAdopted:
    """What the core has to know of the program before."""
    other = left.messages != bequest.digest()
    sites = left.sites
    if other:
        sites = tuple(bequest.reloaded(each, OTHER_MESSAGES) for each in sites)
    replaced = Replaced(
        left.settings, left.last_proc, left.dashboard, left.version != __version__, left.keeper
    )
    return SitesAdopted(sites, replaced)


def outcome(left: Bequest) -> Outcome:
    """How it went, once the new program acts."""
    workers = sum(each.slot is not None for each in left.holdings.processes)
    took_s = time.monotonic() - left.handed_at
    return Outcome(left.number, left.version, __version__, len(left.sites), workers, took_s)


def inherited(left: Bequest) -> None:
    """Look whether this process is the one that was meant.

    Raises:
        bequest.Unreadable: the descriptor of the lock is none.
    """
    if not os.path.isfile(f"/proc/self/fd/{left.lock}"):  # noqa: PTH113 -- a link of the kernel's
        raise bequest.Unreadable(f"descriptor {left.lock} is no lock")


def abandon(runtime_dir: str) -> None:
    """Begin as a daemon does whose predecessor was killed: nothing is known of what is open, and what runs calls.

    Templates and workers call, and a keeper gives the programs when it is asked; whatever else runs below us is told to
    end, and is started anew.
    """
    succession.close_all()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.HEARD)
    found = Estates(Path(runtime_dir) / ESTATES, __version__).read()
    left = {pid for each in found for _, pid in each.estate.pids}
    left.add(Pid(letters.keeper_pid(Path(runtime_dir) / KEEPER)))
    for child in psutil.Process().children():
        if child.pid not in left:
            with suppress(OSError):
                os.killpg(child.pid, signal.SIGTERM)  # each leads a session of its own
