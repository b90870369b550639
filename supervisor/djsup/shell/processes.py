"""Processes: run them, signal them, learn how they ended.

One place reaps everything. A process that the daemon asked for is known by its pidfd, so that a signal
never reaches another process that got the same pid. The daemon is a child subreaper: whatever loses its
parent below it becomes its child, and is reaped here too.
"""

from __future__ import annotations

import asyncio
import ctypes
import grp
import os
import pwd
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from djsup.core.events import Exit
from djsup.core.model import Pid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class CannotRun(Exception):
    """A process could not be run; the text says which and why."""


def become_subreaper() -> None:
    """Make orphans below this process its children (prctl(2), PR_SET_CHILD_SUBREAPER).

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as; ``keep()`` is whoever runs the daemon."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    home: str | None = None

    @staticmethod
    def of(user: str | None, group: str | None) -> Identity:
        """The identity that a site's settings name.

        Raises:
            CannotRun: there is no such user or group.
        """
        if user is None and group is None:
            return Identity()
        try:
            entry = pwd.getpwnam(user) if user is not None else pwd.getpwuid(os.geteuid())
        except KeyError as error:
            raise CannotRun(f"there is no user {user!r} on this machine") from error
        try:
            gid = grp.getgrnam(group).gr_gid if group is not None else entry.pw_gid
        except KeyError as error:
            raise CannotRun(f"there is no group {group!r} on this machine") from error
        if entry.pw_uid == os.geteuid() and gid == os.getegid():
            return Identity(home=entry.pw_dir)
        return Identity(entry.pw_uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)), entry.pw_dir)


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and how."""

    arguments: Sequence[str]
    directory: str
    environment: Mapping[str, str]
    identity: Identity
    stdout: int
    stderr: int
    keep_fds: tuple[int, ...] = ()


def environment(identity: Identity, own: Mapping[str, str]) -> dict[str, str]:
    """A site's environment: its own, and of the daemon's only PATH, LANG, TZ and HOME."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "HOME") if name in os.environ}
    if identity.home is not None:
        kept["HOME"] = identity.home
    return {**kept, **own}


class Processes:
    """The processes that are known, and the reaping of those that are not."""

    def __init__(self, claim_strays: Callable[[], None]) -> None:
        """``claim_strays`` is called before an unknown process is reaped: read what it may have said."""
        self._pidfds: dict[Pid, int] = {}
        self._on_exit: dict[Pid, Callable[[Exit], None]] = {}
        self._killed_by_us: set[Pid] = set()
        self._claim_strays = claim_strays
        self._oom_kills = _count_oom_kills()

    def run(self, command: Command, on_exit: Callable[[Exit], None]) -> Pid:
        """Run a process in a session of its own; ``on_exit`` is called once, when it is gone and reaped.

        Raises:
            CannotRun: it could not be run.
        """
        identity = command.identity
        try:
            process = subprocess.Popen(
                command.arguments,
                cwd=command.directory,
                env=command.environment,
                stdin=subprocess.DEVNULL,
                stdout=command.stdout,
                stderr=command.stderr,
                pass_fds=command.keep_fds,
                start_new_session=True,
                umask=0o022,
                user=identity.uid,
                group=identity.gid,
                extra_groups=identity.groups if identity.uid is not None else None,
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise CannotRun(f"cannot run {command.arguments[0]} in {command.directory}: {error}") from error
        process.returncode = 0  # the reaping is done here, not by the object's destructor
        pid = Pid(process.pid)
        if not self.adopt(pid, on_exit):
            raise CannotRun(f"{command.arguments[0]} was gone at once")
        return pid

    def adopt(self, pid: Pid, on_exit: Callable[[Exit], None]) -> bool:
        """Watch over a process that exists already; False when there is none of that pid."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        self.watch(pid, pidfd, on_exit)
        return True

    def watch(self, pid: Pid, pidfd: int, on_exit: Callable[[Exit], None]) -> None:
        """Watch over a process whose pidfd is open; it is ours from now on. A stranger's exit status is not known."""
        self._pidfds[pid] = pidfd
        self._on_exit[pid] = on_exit
        asyncio.get_running_loop().add_reader(pidfd, self._reap, pid)

    def kill(self, pid: Pid, name: str) -> None:
        """Send a signal by its name; a process that is gone already gets none."""
        pidfd = self._pidfds.get(pid)
        if pidfd is None:
            return
        number = signal.Signals[name]
        if number is signal.SIGKILL:
            self._killed_by_us.add(pid)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    def send_number(self, pid: Pid, number: int) -> None:
        """Send a signal by its number (the real-time ones have no names)."""
        with suppress(ProcessLookupError, KeyError):
            signal.pidfd_send_signal(self._pidfds[pid], number)

    def reap_strays(self) -> None:
        """Reap every child that has ended: known ones are told of, others pass in silence."""
        claimed = False
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = Pid(found.si_pid)
            if pid not in self._pidfds and not claimed:
                claimed = True
                self._claim_strays()
                continue
            if pid in self._pidfds:
                self._reap(pid)
            else:
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    def _reap(self, pid: Pid) -> None:
        pidfd = self._pidfds.get(pid)
        if pidfd is None:
            return
        try:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            ended = Exit()  # it was never our child, or somebody else has reaped it
        else:
            if result is None:
                return
            ended = self._exit(pid, result)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        del self._pidfds[pid]
        self._killed_by_us.discard(pid)
        self._on_exit.pop(pid)(ended)

    def _exit(self, pid: Pid, result: os.waitid_result) -> Exit:
        if result.si_code == os.CLD_EXITED:
            return Exit(status=result.si_status)
        out_of_memory = False
        if result.si_status == signal.SIGKILL and pid not in self._killed_by_us:
            kills = _count_oom_kills()
            out_of_memory = kills > self._oom_kills
            self._oom_kills = kills
        return Exit(
            signal=_signal_name(result.si_status),
            core_dumped=result.si_code == os.CLD_DUMPED,
            out_of_memory=out_of_memory,
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _count_oom_kills() -> int:
    """Processes that the kernel has killed for memory: in the machine and in our own control group."""
    count = 0
    for path in ("/proc/vmstat", _memory_events()):
        with suppress(OSError):
            for line in Path(path).read_text().splitlines():
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    count += int(number)
    return count


def _memory_events() -> str:
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return f"/sys/fs/cgroup{line[3:]}/memory.events"
    return "/nonexistent"
