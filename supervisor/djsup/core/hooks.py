"""The commands that a site has run before and after a reload.

Knows the processes of these commands, how long they may take and how they ended. When one is run, and what its
failure means, is decided in ``generations.py``.

The rule that binds here: whoever runs a newer one, or ends the site, has all others killed first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djsup.core import death
from djsup.core.actions import KillProcess, Level, NoticeKind, RunHook
from djsup.core.events import ProcessExited, ProcessStarted, SpawnFailed

# The shell decodes a Hook (memory.py), and needs the types for it.
from djsup.core.model import Generation, Pid, ProcId  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djsup.core.events import Event
    from djsup.core.model import SiteSettings
    from djsup.core.site import Site

BEFORE = "before_reload"
AFTER = "after_reload"
COMMAND_SHOWN = 120
"""Longer commands are cut in what is said of them."""


@dataclass(slots=True, eq=False)
class Hook:
    """One command that runs, or has ended."""

    proc: ProcId
    name: str
    command: str
    generation: Generation
    by: str
    began_at: float
    timeout_s: float
    pid: Pid | None = None
    dropped: bool = False
    """Nobody waits for it any more."""
    late: bool = False
    """It was killed at its time limit."""
    ended: bool = False
    error: str = ""
    """How it failed, once it has ended; empty: it has not."""
    details: str = ""
    """The last lines that it printed."""

    @property
    def kill_at(self) -> float:
        """When its time is over."""
        return self.began_at + self.timeout_s

    @property
    def words(self) -> str:
        """What it is, for people."""
        shown = (
            self.command if len(self.command) <= COMMAND_SHOWN else f"{self.command[: COMMAND_SHOWN - 1]}…"
        )
        return f"{self.name}: {shown}"


class Hooks:
    """All such commands of one site that run."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._by_proc: dict[ProcId, Hook] = {}

    # --- questions -----------------------------------------------------------------------------

    @property
    def living(self) -> bool:
        """Whether any process of them is left."""
        return bool(self._by_proc)

    def memory(self) -> tuple[Hook, ...]:
        """Those that run."""
        return tuple(self._by_proc.values())

    def remember(self, left: tuple[Hook, ...]) -> None:
        """Go on with those that another program of the daemon has had run."""
        self._by_proc = {each.proc: each for each in left}

    def process(self, proc: ProcId) -> Hook | None:
        """One of them; None: it is none of theirs."""
        return self._by_proc.get(proc)

    def deadlines(self) -> Iterator[float]:
        """Every time at which one has to be killed."""
        yield from (each.kill_at for each in self._by_proc.values() if not (each.dropped or each.late))

    # --- facts ---------------------------------------------------------------------------------

    def record(self, event: Event, now: float) -> bool:
        """Take a fact in; False: it is about none of them."""
        match event:
            case ProcessStarted(proc, pid) if proc in self._by_proc:
                self._by_proc[proc].pid = pid
            case SpawnFailed(proc, error) if proc in self._by_proc:
                self._ended(proc, f"could not be started: {error}", "", now)
            case ProcessExited(proc, end) if proc in self._by_proc:
                well = end.status == 0
                text = death.in_words(end, killed_by_us=self._by_proc[proc].late)
                self._ended(proc, "" if well else text, death.last_words(end), now)
            case _:
                return False
        return True

    def _ended(self, proc: ProcId, error: str, details: str, now: float) -> None:
        hook = self._by_proc.pop(proc)
        hook.ended, hook.details = True, details
        if hook.late:
            error = f"took longer than hook_timeout ({hook.timeout_s:g} s) and was killed"
        hook.error = error
        if hook.dropped:
            return
        took = f"after {now - hook.began_at:.1f} s"
        if not error:
            self._say(NoticeKind.HOOK_ENDED, hook, f"ended well {took}", Level.INFO)
        elif hook.name == AFTER:  # before a reload, its being rolled back says all
            self._say(NoticeKind.HOOK_FAILED, hook, f"failed {took}: {error}", Level.ERROR)

    def _say(self, kind: NoticeKind, hook: Hook, text: str, level: Level) -> None:
        self._site.notices.say(
            kind,
            f"{hook.words} {text}",
            level=level,
            generation=hook.generation,
            by=hook.by,
            details=hook.details,
        )

    # --- what is to be done --------------------------------------------------------------------

    def run(
        self, name: str, command: str, settings: SiteSettings, generation: Generation, by: str, now: float
    ) -> Hook:
        """Have one run."""
        proc = self._site.new_proc()
        hook = Hook(proc, name, command, generation, by, now, settings.reload.hook_timeout_s)
        self._by_proc[proc] = hook
        self._site.notices.say(NoticeKind.HOOK_STARTED, hook.words, generation=generation, by=by)
        self._site.do(RunHook(proc, settings, generation, name, command))
        return hook

    def drop(self, why: str) -> None:
        """Kill those that run: nobody waits for them any more."""
        for hook in self._by_proc.values():
            if hook.dropped:
                continue
            hook.dropped = True
            if not hook.late:
                self._site.do(KillProcess(hook.proc, "SIGKILL"))
            self._say(NoticeKind.HOOK_FAILED, hook, f"is killed: {why}", Level.WARNING)

    def kill_late(self, now: float) -> None:
        """Kill those whose time is over."""
        for hook in self._by_proc.values():
            if now >= hook.kill_at and not (hook.dropped or hook.late):
                hook.late = True
                self._site.do(KillProcess(hook.proc, "SIGKILL"))
