"""Bugs planted in the core, one at a time: the simulation must catch every one of them.

Each is a right line of one function and the wrong one in its place. The right line has to be
found exactly once, so that a planted bug cannot rot away unseen when the core changes.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djsup.core.backoff import Backoff
from djsup.core.fleet import Fleet
from djsup.core.generations import Generations
from djsup.core.hooks import Hooks
from djsup.core.keeper import Keeper
from djsup.core.listeners import Listeners
from djsup.core.own_process import OwnProcess
from djsup.core.pool import Pool
from djsup.core.program import Program
from djsup.core.programs import Programs
from djsup.core.scaling import Scaling
from djsup.core.site import Site
from djsup.core.sleep import Sleep
from djsup.core.template import Template
from djsup.core.worker import Worker
from djsup.core.workers import Workers

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Planted:
    """One bug."""

    bug: str
    owner: type
    function: str
    right: str
    wrong: str
    daemon_dies: bool = False
    """It shows only where a daemon is killed and another adopts what is left."""
    upgrades: bool = False
    """It shows only where the daemon replaces its own program."""
    shown_by: str = ""
    """A history that shows it, and is played first, where one comes to it late; others are played if it does not."""

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put the wrong line in place of the right one."""
        found: Any = inspect.getattr_static(self.owner, self.function)
        is_property = isinstance(found, property)
        source = textwrap.dedent(inspect.getsource(found.fget if is_property else found))
        assert source.count(self.right) == 1, f"the right line of {self.function} is gone: {self.right}"
        scope: dict[str, Any] = {}
        module = sys.modules[self.owner.__module__]
        exec(source.replace(self.right, self.wrong), dict(vars(module)), scope)
        monkeypatch.setattr(self.owner, self.function, scope[self.function])


PLANTED = [
    Planted(
        "an adopted site begins to count its generations anew",
        Generations,
        "take_over",
        "self.last = left.last",
        "self.last = 0",
        daemon_dies=True,
    ),
    Planted(
        "an adopted process's name is given to another",
        Fleet,
        "_adopt",
        "self._last_proc = max(self._last_proc, proc)",
        "pass",
        daemon_dies=True,
    ),
    Planted(
        "an adopted listener is bound once more and closed",
        Fleet,
        "_adopt",
        "self._listeners.adopt(name, pool.addresses())",
        "pass",
        daemon_dies=True,
    ),
    Planted(
        "the number asked for by hand is forgotten with the daemon",
        Pool,
        "adopt",
        "self.site.by_hand = left.by_hand",
        "pass",
        daemon_dies=True,
    ),
    Planted(
        "what is written down of a site leaves out its programs",
        Pool,
        "estate",
        "programs=self.programs.left()",
        "programs=None",
        daemon_dies=True,
    ),
    Planted(
        "an adopted program belongs to nobody",
        Fleet,
        "_adopt",
        "*(each.proc for each in left.processes), *pool.programs.procs",
        "*(each.proc for each in left.processes),",
        daemon_dies=True,
    ),
    Planted(
        "the failures of an adopted program are forgotten with the daemon",
        Program,
        "remember",
        "self.backoff.remember(left.failures)",
        "pass",
        daemon_dies=True,
    ),
    Planted(
        "an adopted program that was told to end may take for ever",
        Program,
        "adopted",
        "self._late_at = now + self.manners.stop_timeout_s",
        "pass",
        daemon_dies=True,
        shown_by="116d",
    ),
    Planted(
        "an adopted program may boot for ever",
        Program,
        "adopted",
        "self._late_at = now + self.manners.start_timeout_s",
        "pass",
        daemon_dies=True,
        shown_by="73d",
    ),
    Planted(
        "the keeper ends before the programs",
        Keeper,
        "keep",
        "needed=wanted or self._holds",
        "needed=wanted",
    ),
    Planted(
        "a keeper that has died is not missed",
        OwnProcess,
        "keep",
        "if self.may_start(now):",
        "if self.may_start(now) and not (self.owner == KEEPER and self.backoff.count):",
        shown_by="29",
    ),
    Planted(
        "more workers are on trial than were asked for",
        Generations,
        "_try",
        "min(trial.workers - there, self._workers.room(now))",
        "self._workers.room(now)",
    ),
    Planted(
        "a worker on trial is drained as one too many",
        Workers,
        "cull",
        "{making.source.number, making.on_trial}",
        "{making.source.number}",
    ),
    Planted(
        "nobody looks when the time of a trial is over",
        Generations,
        "deadlines",
        "yield from self.rollout.trial.deadlines()",
        "pass",
        shown_by="21",
    ),
    Planted(
        "a command around a reload may run for ever",
        Hooks,
        "kill_late",
        "now >= hook.kill_at",
        "False",
    ),
    Planted(
        "code is loaded while the command before it runs",
        Generations,
        "_check",
        "elif hook.ended:",
        "else:",
    ),
    Planted(
        "an upgrade forgets the reload that runs",
        Generations,
        "remember",
        "if (held := left.rollout) is None:",
        "if (held := left.rollout) is None or True:",
        upgrades=True,
    ),
    Planted(
        "an upgrade forgets failures in a row",
        Generations,
        "remember",
        "self.loads.remember(left.loads)",
        "pass",
        upgrades=True,
    ),
    Planted(
        "an upgrade forgets that a worker was told to go",
        Workers,
        "remember",
        "worker.state, worker.kill_at, worker.leaving_at = each.state, each.kill_at, each.leaving_at",
        "pass",
        upgrades=True,
        shown_by="34u",
    ),
    Planted(
        "an upgrade starts a program that runs",
        Programs,
        "remember",
        "process.remember(kept.process)",
        "pass",
        upgrades=True,
    ),
    Planted(
        "an upgrade loads what sleeps",
        Sleep,
        "remember",
        "self._site.asleep = state is not State.AWAKE",
        "pass",
        upgrades=True,
    ),
    Planted(
        "an upgrade gives a process's name to another",
        Fleet,
        "_inherit",
        "self.settings, self._last_proc = replaced.settings, replaced.last_proc",
        "self.settings, self._last_proc = replaced.settings, 0",
        upgrades=True,
    ),
    Planted(
        "one worker is drained before its replacement serves",
        Workers,
        "cull",
        "spare = len(serving) - self._site.promise",
        "spare = len(serving) - self._site.promise + 1",
    ),
    Planted(
        "one worker lives above the surge",
        Workers,
        "room",
        "most = self._site.promise + self._site.surge",
        "most = self._site.promise + self._site.surge + 1",
    ),
    Planted(
        "a draining worker does not count as living",
        Worker,
        "counts",
        "return not self.overdue and now < self.leaving_at + PATIENCE_S",
        "return False",
    ),
    Planted(
        "workers come back without waiting for the backoff",
        Workers,
        "fill",
        " or not source.deaths.allows(now)",
        "",
    ),
    Planted(
        "a worker that failed is counted only when its process has gone",
        Workers,
        "at_fault",
        "each.error and not each.end_asked",
        "False",
    ),
    Planted(
        "a row of early deaths ends with a worker that came before it",
        Generations,
        "forgive",
        "and one.ready_at >= failed_at",
        "",
    ),
    Planted("the backoff does not grow", Backoff, "failed", "self.count + 1", "1"),
    Planted(
        "a failed load is repeated at once",
        Generations,
        "give_up",
        "    self.loads.failed(now)\n",
        "    pass\n",
        shown_by="11",
    ),
    Planted(
        "a draining worker is never killed",
        Worker,
        "drain",
        "self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)",
        "self.kill_at = None",
    ),
    Planted(
        "a stuck worker is never killed",
        Worker,
        "became_overdue",
        "if self.state is State.OVERDUE",
        "if False",
        shown_by="125",
    ),
    Planted(
        "a template that hangs at import is waited for without end",
        Generations,
        "kill_late",
        "if late.kill_at is None or now < late.kill_at:",
        "if True:",
    ),
    Planted("a number of a generation is used twice", Generations, "_open", "self.last = number", "pass"),
    Planted(
        "a generation is forgotten with workers of it alive",
        Generations,
        "tidy",
        " and not self._workers.of(number)",
        "",
    ),
    Planted(
        "connections are handed to a generation in which nobody serves",
        Workers,
        "_heir",
        "return making.source.number",
        "return leaving.generation",
    ),
    Planted(
        "connections are closed though somebody serves",
        Workers,
        "_heir",
        "return making.source.number",
        "return None",
    ),
    Planted(
        "a draining worker's slot is given away",
        Workers,
        "start",
        "each.slot for each in self.by_proc.values()",
        "each.slot for each in self.untold()",
    ),
    Planted(
        "a template is started before its addresses are bound",
        Generations,
        "_bind",
        "if self._listeners.ready(self._site.name, listen):",
        "if True:",
        shown_by="9",
    ),
    Planted(
        "an address is closed while the old generation serves on it",
        Generations,
        "addresses",
        "for each in (self.serving, self.rollout) if",
        "for each in (self.rollout or self.serving,) if",
    ),
    Planted(
        "an address that nobody needs stays bound",
        Listeners,
        "reconcile",
        "if each not in needed",
        "if False",
    ),
    Planted(
        "a lost template is never loaded again",
        Generations,
        "needs_load",
        " or self.serving.barren",
        "",
    ),
    Planted(
        "a reload is not given up when its template dies",
        Generations,
        "template_ended",
        "if self.builds(generation.number):",
        "if False:",
        shown_by="13",
    ),
    Planted(
        "a reload is not given up when its worker dies",
        Generations,
        "worker_failed",
        "if self.builds(gone.generation):",
        "if False:",
    ),
    Planted(
        "the serving generation's template ends when a reload fails",
        Generations,
        "give_up",
        "    self.rollout = None\n",
        "    self.rollout = None\n    self.serving = None\n",
    ),
    Planted(
        "two reloads of a site run at one time",
        Generations,
        "begin",
        'self.supersede("a newer reload was asked for", now)',
        "pass",
    ),
    Planted(
        "new limits are not told",
        Workers,
        "tell_limits",
        "if plan.must_tell(each.limits, limits):",
        "if False:",
        shown_by="81",
    ),
    Planted(
        "a number asked for by hand outlives a change of the configuration",
        Pool,
        "change",
        "if found:",
        "if False:",
    ),
    Planted(
        "nobody goes when fewer are wanted",
        Workers,
        "cull",
        "going += [each for each in surplus if each.serving]",
        "pass",
        shown_by="38",
    ),
    Planted(
        "a worker that has had enough stays",
        Workers,
        "_retiree",
        "each.serving and each.retiring",
        "False",
        shown_by="14",
    ),
    Planted(
        "a restart does not wait for the old processes",
        Pool,
        "_reconcile",
        "self.mode is Mode.RESTART and self.at_rest",
        "self.mode is Mode.RESTART",
    ),
    Planted(
        "a stop leaves those that serve alone", Workers, "end_all", "self._drain(each, None, now)", "pass"
    ),
    Planted("the daemon quits too early", Fleet, "_quit_if_done", " or self._owners", ""),
    Planted(
        "a process that is asked for is not in the books",
        Fleet,
        "_new_proc",
        "self._owners[proc] = site",
        "self._owners.setdefault(proc, site) if proc % 5 else None",
    ),
    Planted(
        "the dashboard comes back without waiting for the backoff",
        Program,
        "may_start",
        " and self.backoff.allows(now)",
        "",
    ),
    Planted(
        "a program that falls silent is not told apart from one that was told to end",
        Program,
        "kill_if_late",
        "if self.state is State.RUNNING:",
        "if False:",
        shown_by="13",
    ),
    Planted(
        "a program that ignores its stop signal is never killed",
        Program,
        "_leave",
        "self._late_at = now + self.manners.stop_timeout_s",
        "self._late_at = None",
    ),
    Planted(
        "every program is restarted by a reload",
        Programs,
        "_follow",
        "if each.settings.reload is ProgramReload.RESTART:",
        "if True:",
    ),
    Planted(
        "a program that is not configured any more goes on",
        Programs,
        "_keep",
        "each.settings in self._force and each.number < each.settings.instances",
        "True",
        shown_by="22",
    ),
    Planted(
        "a program with other settings is not replaced",
        Programs,
        "_keep",
        "not _alike(each.runs_with, each.settings)",
        "False",
        shown_by="483",
    ),
    Planted(
        "two runs of a scheduled command overlap",
        Programs,
        "_run",
        "elif job.runs_now:",
        "elif False:",
    ),
    Planted(
        "the programs of a site that ends are left alone",
        Programs,
        "end_all",
        "self._do(each.process.end(now))",
        "pass",
    ),
    Planted(
        "a template that ignores SIGTERM is never killed",
        Template,
        "end",
        "self.kill_at = now + EXIT_GRACE_S",
        "pass",
    ),
    Planted(
        "a worker that was given up before its template forked it is waited for without end",
        Worker,
        "kill",
        "if not self.unborn:",
        "if True:",
        shown_by="119",
    ),
    Planted(
        "one busy sample brings a worker more",
        Scaling,
        "_grow",
        "self._saturated < SATURATED_SAMPLES",
        "not self._saturated",
    ),
    Planted(
        "busy samples before and after a reload are a row",
        Scaling,
        "look_away",
        "self._saturated, self._less_since = 0, None",
        "self._less_since = None",
        shown_by="19",
    ),
    Planted(
        "workers go as soon as they are not needed",
        Scaling,
        "_shrink",
        "if now - self._less_since >= down_after_s:",
        "if True:",
    ),
    Planted(
        "workers go as if the last sample were the greatest load",
        Scaling,
        "_shrink",
        "self._peak = max(self._peak, load)",
        "self._peak = load",
        shown_by="88",
    ),
    Planted(
        "so many workers go that the rest are busy at once",
        Scaling,
        "_shrink",
        "self.wanted = clamp(ceil(self._peak / FULL), count)",
        "self.wanted = clamp(int(self._peak), count)",
        shown_by="15",
    ),
    Planted(
        "workers never go",
        Scaling,
        "_shrink",
        "now - self._less_since >= down_after_s",
        "False",
        shown_by="15",
    ),
    Planted(
        "waiting connections are no load",
        Scaling,
        "weigh",
        "(sample.busy_threads + sample.waiting) / threads",
        "(sample.busy_threads - 0.1) / threads",
        shown_by="15",
    ),
    Planted(
        "more workers come than max",
        Scaling,
        "number",
        "return clamp(count.least if fixed else self.wanted, count)",
        "return count.least if fixed else max(1, self.wanted + 1)",
    ),
    Planted(
        "a number by hand goes above max",
        Site,
        "promise",
        "scaling.clamp(self.by_hand, count)",
        "max(1, self.by_hand)",
    ),
    Planted(
        "one worker more for all wakes those that sleep",
        Pool,
        "_scale",
        "if relative and self.site.asleep:",
        "if False:",
        shown_by="89",
    ),
    Planted(
        "a site falls asleep while it is used",
        Sleep,
        "weigh",
        "used = sample.busy_threads or sample.waiting or sample.connections",
        "used = False",
    ),
    Planted("an unused site never sleeps", Sleep, "weigh", "if idle and ready:", "if False:", shown_by="49"),
    Planted("a site with min = 1 sleeps", Sleep, "weigh", "site.settings.workers.least == 0 and ", ""),
    Planted(
        "a connection does not wake a site", Sleep, "connection_waits", "if self._site.asleep:", "if False:"
    ),
    Planted(
        "the listeners of a site that sleeps are not watched",
        Sleep,
        "watch",
        "if running and self._site.asleep:",
        "if False:",
    ),
    Planted(
        "a site that sleeps keeps its template",
        Sleep,
        "look",
        "now >= self._cold_at or",
        "False or",
        shown_by="89",
    ),
    Planted(
        "a site that may not sleep any more sleeps on",
        Sleep,
        "change",
        "if self._site.settings.workers.least > 0:",
        "if False:",
        shown_by="1468",
    ),
    Planted(
        "a number by hand does not keep a site awake",
        Sleep,
        "weigh",
        " or site.by_hand is not None",
        "",
        shown_by="129",
    ),
    Planted(
        "a change of the configuration starts what is stopped",
        Pool,
        "change",
        "if self.mode is Mode.REMOVED:",
        "if self.mode in {Mode.REMOVED, Mode.HALT}:",
    ),
    Planted(
        "what is stopped keeps its addresses",
        Pool,
        "addresses",
        "{Mode.RUN, Mode.RESTART}",
        "{Mode.RUN, Mode.RESTART, Mode.HALT}",
    ),
    Planted(
        "a start only says that it starts",
        Pool,
        "_start",
        "self.mode, self.stopped_by, self.settled = Mode.RESTART, None, False",
        "self.stopped_by = None",
    ),
    Planted(
        "a killed daemon takes along that a site is stopped",
        Pool,
        "estate",
        "if self.at_rest and self.mode is not Mode.HALT:",
        "if self.at_rest:",
        daemon_dies=True,
    ),
    Planted(
        "an upgrade starts what is stopped",
        Pool,
        "inherit",
        "if left.stopped_by is not None:",
        "if False:",
        upgrades=True,
    ),
]
