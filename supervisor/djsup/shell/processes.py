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
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from djsup import sessions, turns
from djsup.core.events import Exit
from djsup.core.model import Pid
from djsup.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)
_CONTROL_GROUP = re.compile(rb"^0::(.*)$", re.MULTILINE)
ASK_AGAIN_S = 0.15
LOOK_AGAIN_S = 0.25
_PAGE_BYTES = 4096
_FILE_MAX_BYTES = 64 * 1024


class CannotRun(Exception):
    """A process could not be run; the text says which and why."""


def become_subreaper() -> None:
    """Make orphans below this process its children (prctl(2), PR_SET_CHILD_SUBREAPER).

    Raises:
        OSError: the kernel refuses.
    """
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
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
    def of(user: str | None, group: str | None, more: Sequence[str] = ()) -> Identity:
        """The identity that a site's settings name; ``more`` are groups beside the user's own.

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
        try:
            others = [grp.getgrnam(name).gr_gid for name in more]
        except KeyError as error:
            raise CannotRun(f"there is no such group on this machine: {error}") from error
        if entry.pw_uid == os.geteuid() and gid == os.getegid() and not others:
            return Identity(home=entry.pw_dir)
        groups = dict.fromkeys((*os.getgrouplist(entry.pw_name, gid), *others))
        return Identity(entry.pw_uid, gid, tuple(groups), entry.pw_dir)


class Stage(Protocol):
    """A program that is run first and becomes the one that was meant."""

    def command(
        self, arguments: Sequence[str], directory: str, environment: Mapping[str, str], identity: Identity
    ) -> AbstractContextManager[tuple[list[str], int]]:
        """Its own command, and a descriptor that it needs, for the time of its start."""


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
    whole_group: bool = False
    """Whatever it leaves in its session is killed when it ends, and SIGKILL is for all of its group."""
    orphan_signal: str | None = None
    """The signal that the kernel sends it when the daemon dies (prctl(2), PR_SET_PDEATHSIG); None: none."""
    announcement: tuple[int, bytes] | None = None
    """What it writes, and whereto, before it runs what it is to run: whoever reads it sees from whom it comes."""
    turn: Turn = Turn.USUAL
    stands_back_s: float = 0.0
    """How long others go before it and what it starts, at most."""
    patience_s: float = 0.0
    """How long it may be kept waiting by them meanwhile."""
    umask: int = 0o022
    jail: Stage | None = None
    """The stage through which it is run; None: it is run as it is."""


def start(command: Command) -> subprocess.Popen[bytes]:
    """Run a command in a session of its own.

    Raises:
        CannotRun: it could not be run.
    """
    identity, jail = command.identity, command.jail
    try:
        if jail is None:
            return _popen(command, command.arguments, command.directory, command.environment, ())
        stage = jail.command(command.arguments, command.directory, command.environment, identity)
        with stage as (arguments, fd):
            # As we are, and with nothing of the site's: the stage drops its rights by itself.
            return _popen(replace(command, identity=Identity()), arguments, "/", {}, (fd,))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise CannotRun(f"cannot run {command.arguments[0]} in {command.directory}: {error}") from error


def _popen(
    command: Command,
    arguments: Sequence[str],
    directory: str,
    environment: Mapping[str, str],
    fds: tuple[int, ...],
) -> subprocess.Popen[bytes]:
    identity = command.identity
    return subprocess.Popen(
        arguments,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=command.stdout,
        stderr=command.stderr,
        pass_fds=(*command.keep_fds, *fds),
        start_new_session=True,
        umask=command.umask,
        user=identity.uid,
        group=identity.gid,
        extra_groups=identity.groups if identity.uid is not None else None,
        preexec_fn=_preparation(command),  # noqa: PLW1509 -- single system calls, no lock
    )


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
        self._with_group: set[Pid] = set()
        """Leaders of a session that ends with them."""
        self._standing_back: dict[int, asyncio.TimerHandle] = {}
        """Leaders of sessions and other processes that stand back, and when they are looked at next."""
        self._claim_strays = claim_strays
        self._oom_kills = [_count_oom_kills()] * 2
        """How many there were at the last two looks: a kill of ours came after the older one."""

    def run(self, command: Command, on_exit: Callable[[Exit], None]) -> Pid:
        """Run a process in a session of its own; ``on_exit`` is called once, when it is gone and reaped.

        Raises:
            CannotRun: it could not be run.
        """
        process = start(command)
        process.returncode = 0  # the reaping is done here, not by the object's destructor
        pid = Pid(process.pid)
        turns.take(pid, command.turn)
        stands_back = command.stands_back_s > 0 and turns.stand_back(pid)
        try:
            adopted = self.adopt(pid, on_exit)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)  # nobody has reaped it, so the number is its own
            raise CannotRun(f"cannot watch over {command.arguments[0]}: {error}") from error
        if not adopted:
            raise CannotRun(f"{command.arguments[0]} was gone at once")
        if command.whole_group:
            self._with_group.add(pid)
        if stands_back:
            self._look_after(pid, command.stands_back_s, command.patience_s)
        return pid

    def stand_back(self, pid: Pid, stands_back_s: float, patience_s: float) -> None:
        """Let all others go before a process that was forked, as ``Command`` says of one that is run."""
        if turns.let_all_go(pid):
            self._look_after(pid, stands_back_s, patience_s)

    def _look_after(self, pid: Pid, stands_back_s: float, patience_s: float) -> None:
        """See now and then how who stands back gets on, and end it in time."""
        seen = turns.see((pid,))
        self._look_soon(pid, seen.at + stands_back_s, patience_s, seen)

    def _look_soon(self, pid: int, until: float, patience_s: float, seen: turns.Seen) -> None:
        after_s = min(LOOK_AGAIN_S, until - seen.at)
        look = asyncio.get_running_loop().call_later(after_s, self._look, pid, until, patience_s, seen)
        self._standing_back[pid] = look

    def _look(self, pid: int, until: float, patience_s: float, before: turns.Seen) -> None:
        members = self._members(pid)
        seen = turns.see(members)
        patience_s -= turns.kept_waiting_s(before, seen)
        if members and patience_s > 0 and seen.at < until:
            self._look_soon(pid, until, patience_s, seen)
        else:
            self._end_standing_back(pid)

    def come_forward(self, pid: Pid) -> None:
        """Have a process that begins to serve stand back no longer, nor the session that has done so for it."""
        leader = _session_of(pid)
        if leader is None:
            return  # it is gone already
        if leader != pid and (leader in self._standing_back or turns.stands_back(pid)):
            self._end_standing_back(leader)
        self._end_standing_back(pid)

    def _end_standing_back(self, pid: int) -> None:
        look = self._standing_back.pop(pid, None)
        if look is not None:
            look.cancel()
        if not turns.come_forward(self._members(pid)):
            asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._end_standing_back, pid)

    def _members(self, pid: int) -> list[Pid]:
        """A process that we know, and those of the session that it leads."""
        return [each for each in self._pidfds if pid in (each, _session_of(each))]

    def adopt(self, pid: Pid, on_exit: Callable[[Exit], None]) -> bool:
        """Watch over a process that exists already; False when there is none of that pid.

        Raises:
            OSError: there is no descriptor left for it.
        """
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

    def held(self, pid: Pid) -> tuple[int, bool, bool]:
        """What another program of the daemon needs: the pidfd, whether its group ends with it, whether we killed it.

        Raises:
            KeyError: it is not watched.
        """
        return self._pidfds[pid], pid in self._with_group, pid in self._killed_by_us

    def go_on(self, pid: Pid, held: tuple[int, bool, bool], on_exit: Callable[[Exit], None]) -> None:
        """Watch on over a process that another program of the daemon has watched."""
        pidfd, with_group, killed_by_us = held
        if with_group:
            self._with_group.add(pid)
        if killed_by_us:
            self._killed_by_us.add(pid)
        self.watch(pid, pidfd, on_exit)

    def kill(self, pid: Pid, name: str) -> None:
        """Send a signal by its name; a process that is gone already gets none."""
        pidfd = self._pidfds.get(pid)
        if pidfd is None:
            return
        number = signal.Signals[name]
        if number is signal.SIGKILL:
            self._killed_by_us.add(pid)
            if pid in self._with_group:
                sessions.kill(pid)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)

    def send_number(self, pid: Pid, number: int) -> None:
        """Send a signal by its number (the real-time ones have no names)."""
        with suppress(ProcessLookupError, KeyError):
            signal.pidfd_send_signal(self._pidfds[pid], number)

    def look_at_memory(self) -> None:
        """Forget the kernel's kills for memory that were others'; called once a second.

        The kernel says how many there were in the machine, and not whose: one of long ago must not explain a SIGKILL
        that somebody sends today.
        """
        now = _count_oom_kills()
        self._oom_kills = [min(self._oom_kills[1], now), now]

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
            if pid in self._with_group:
                # Before it is reaped: as long as its leader is a zombie, the number is of this session.
                if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return
                sessions.kill(pid)
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            ended = Exit()  # it was never our child, or somebody else has reaped it
            if pid in self._with_group:
                sessions.kill_rest(pid)
        else:
            if result is None:
                return
            ended = self._exit(pid, result)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        del self._pidfds[pid]
        self._killed_by_us.discard(pid)
        self._with_group.discard(pid)
        self._on_exit.pop(pid)(ended)

    def _exit(self, pid: Pid, result: os.waitid_result) -> Exit:
        if result.si_code == os.CLD_EXITED:
            return Exit(status=result.si_status)
        out_of_memory = False
        if result.si_status == signal.SIGKILL and pid not in self._killed_by_us:
            out_of_memory = _count_oom_kills() > self._oom_kills[0]
            if out_of_memory:
                self._oom_kills = [each + 1 for each in self._oom_kills]  # one death each
        return Exit(
            signal=_signal_name(result.si_status),
            core_dumped=result.si_code == os.CLD_DUMPED,
            out_of_memory=out_of_memory,
        )


def _session_of(pid: Pid) -> int | None:
    """The leader of a process's session; None: it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _preparation(command: Command) -> Callable[[], None] | None:
    """What a new process has to do before exec(3): ask for a signal when its parent dies, say that it is there."""
    name, announcement = command.orphan_signal, command.announcement
    if name is None and announcement is None:
        return None
    number = 0 if name is None else int(signal.Signals[name])

    def prepare() -> None:
        if number:
            _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if announcement is not None:
            with suppress(OSError):  # there is nobody to read it
                os.write(*announcement)

    return prepare


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _count_oom_kills() -> int:
    """Processes that the kernel has killed for memory: in the machine and in our own control group."""
    # As bytes and searched at once, for this is done each second: /proc/vmstat has some two hundred lines.
    found = (_OOM_KILLS.search(_read(path)) for path in (b"/proc/vmstat", _memory_events()))
    return sum(int(each[1]) for each in found if each is not None)


def _memory_events() -> bytes:
    found = _CONTROL_GROUP.search(_read(b"/proc/self/cgroup"))
    return b"/nonexistent" if found is None else b"/sys/fs/cgroup%b/memory.events" % found[1]


def _read(path: bytes) -> bytes:
    """A small file of the kernel's; empty where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    content = b""
    try:
        # The kernel gives a page at a time of such a file.
        while (more := os.read(fd, _PAGE_BYTES)) and len(content) < _FILE_MAX_BYTES:
            content += more
    except OSError:
        pass
    finally:
        os.close(fd)
    return content
