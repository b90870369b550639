"""The daemon: next event -> fleet.handle -> perform each action; sleeps until the fleet's deadline.

This is the story; the fleet (``djsup.core.fleet``) decides, the performer does, the observer measures,
the desk answers operators. Signals, messages, exits and timers enter one queue.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING, Any

import djsup
from djsup import config, own_processes, upgrade
from djsup.adoption import Adoption
from djsup.bequest import FORMAT, LINES_MAX, Bequest, Figures, digest
from djsup.core import difference, events
from djsup.core.actions import Action, Level
from djsup.core.fleet import Fleet
from djsup.core.model import SiteName
from djsup.core.snapshot import DaemonSnapshot, SiteState, Snapshot
from djsup.deploys import Deploys
from djsup.desk import Desk
from djsup.disclosure import disclose
from djsup.farewell import Farewell
from djsup.observer import Observer, to_next_look_s
from djsup.performer import Performer
from djsup.profiler import Profiler
from djsup.service import STORED, Service
from djsup.shell import inherited, signals, succession
from djsup.shell.archive import Archive
from djsup.shell.control import Control, Peer, Refused
from djsup.shell.estates import Estates
from djsup.shell.history import KEPT, History
from djsup.shell.logs import Logs, Writer
from djsup.shell.notify import Notify
from djsup.shell.processes import become_subreaper
from djsup.shell.runtime import RuntimeDirectory, RuntimeTaken, RuntimeUnusable
from djsup.timetable import Timetable
from djsup.tracer import Tracer
from djsup.upgrade import Upgrades

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from djsup.core.estate import Estate
    from djsup.core.events import Event
    from djsup.core.model import Settings
    from djsup.core.snapshot import ReloadReport, SiteSnapshot
    from djsup.doorkeeper import Doorkeeper
    from djsup.shell.history import Entry

DEPLOYS_RECALLED = 2000
"""Deploys of an earlier daemon that are read at the start, of all sites."""
SETTLED = {
    SiteState.SERVING,
    SiteState.DEGRADED,
    SiteState.FAILED,
    SiteState.BACKING_OFF,
    SiteState.SLEEPING,
    SiteState.STOPPED,
}


def run(
    settings: Settings,
    warnings: Sequence[str] = (),
    *,
    ready_fd: int | None = None,
    left: Bequest | None = None,
) -> int:
    """Run the daemon until it is told to stop; the exit status.

    Args:
        settings: the valid configuration.
        warnings: what was odd about it, for the log.
        ready_fd: where one line of JSON goes once every site serves or has failed:
            ``{"ok": bool, "sites": {NAME: STATE, or the error}}``.
        left: what the program has left that ran before in this process.
    """
    try:
        runtime = RuntimeDirectory(Path(settings.runtime_dir), None if left is None else left.lock)
    except (RuntimeTaken, RuntimeUnusable) as error:
        sys.stderr.write(f"djsup: {error}\n")
        return 1
    try:
        return asyncio.run(_run(runtime, settings, warnings, ready_fd, left))
    except RuntimeUnusable as error:
        sys.stderr.write(f"djsup: {error}\n")
        return 1
    finally:
        runtime.release()


async def _run(
    runtime: RuntimeDirectory,
    settings: Settings,
    warnings: Sequence[str],
    ready_fd: int | None,
    left: Bequest | None,
) -> int:
    become_subreaper()
    _raise_descriptor_limit()
    daemon = Daemon(runtime, settings, ready_fd, left)
    for warning in warnings:
        daemon.performer.say("warning", warning, Level.WARNING)
    await daemon.live(settings)
    return 0


class Daemon:
    """The one long-lived process."""

    def __init__(
        self,
        runtime: RuntimeDirectory,
        settings: Settings,
        ready_fd: int | None = None,
        left: Bequest | None = None,
    ) -> None:
        self.pid = os.getpid()
        self.history = History()
        self.archive = Archive(runtime.events)
        self.history.recall(self.archive.recall(KEPT))
        self.history.keep = self._keep
        self.deploys = Deploys(self._last_reload)
        self.deploys.recall(self.archive.recall_deploys(DEPLOYS_RECALLED))
        self.deploys.keep = lambda deploy: self.archive.add_deploy(deploy.started_at, deploy.to_json())
        self.log = Logs(settings.log, Writer())
        self.fleet = Fleet()
        sockets = inherited.take(os.environ) if left is None else inherited.again(left.holdings.named)
        self.performer = Performer(runtime, self.tell, self.log, self.history, sockets)
        self.service = Service(Notify(os.environ))
        self.performer.listeners.bound = self.service.keep
        self.performer.listeners.closed = self.service.drop
        self.observer = Observer(self.performer, self.tell)
        self.observer.recorder.keep = self.archive.add_minute
        self.farewell = Farewell(self.performer, self.tell)
        self.timetable = Timetable(self.tell)
        self.tracer = Tracer(self.performer)
        self.profiler = Profiler(self.performer)
        self._estates = Estates(runtime.estates, djsup.__version__)
        self._unwritten: dict[SiteName, Estate | None] = {}
        """Estates that could not be written yet, as on a full disk: the next look tries again."""
        self._estate_trouble: int | None = None
        self._adoption = Adoption(runtime, self.performer, djsup.__version__)
        self._file = Path(settings.file)
        self._runtime_dir = settings.runtime_dir
        self._lock = runtime.lock
        self._left = left
        self.upgrades = Upgrades(self)
        self._stopping = False
        self._queue: asyncio.Queue[tuple[Event, asyncio.Future[Snapshot] | None]] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._started_at = time.time() if left is None else left.started_at
        self._started = time.monotonic() if left is None else left.started
        self._ready_fd = ready_fd if left is None else left.ready_fd
        self._tasks: set[asyncio.Task[None]] = set()
        self.rereading = asyncio.Lock()
        desk = Desk(self)
        self._control = Control(runtime.control, self._may_control, desk.answer)
        self._dashboard_control = Control(
            runtime.dashboard_control, self.performer.may_use_dashboard_socket, desk.answer
        )

    # --- the story ----------------------------------------------------------------------------

    async def live(self, settings: Settings) -> None:
        """Start the sites, go on until everything has ended."""
        await self._open(settings)
        # What there is now stays. To look through it again and again for what could go takes tens of milliseconds,
        # in which nobody is told anything, and for which workers may wait.
        gc.collect()
        gc.freeze()
        try:
            while not self.performer.quitting:
                event, seen = await self._next_event()
                self._handle(event)
                self._show(seen)
        finally:
            await self._close()

    async def _next_event(self) -> tuple[Event, asyncio.Future[Snapshot] | None]:
        """The next event, or DeadlinePassed at the moment for which the fleet has asked."""
        deadline = self.fleet.deadline
        if deadline is None:
            return await self._queue.get()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                if time.monotonic() < deadline:
                    return await self._queue.get()
                await asyncio.sleep(0)
        except TimeoutError:
            pass
        return events.DeadlinePassed(), None

    def _handle(self, event: Event) -> None:
        for action in self._decide(event):
            self._perform(action)
        self._write_estates()

    def _decide(self, event: Event) -> list[Action]:
        try:
            return self.fleet.handle(event, time.monotonic())
        except Exception:  # noqa: BLE001 - our own mistake must not end the care for thirty sites
            self.performer.say("bug", f"djsup's mistake, at {event}", Level.ERROR, details=format_exc())
            return []

    def _perform(self, action: Action) -> None:
        try:
            self.performer.perform(action)
        except Exception:  # noqa: BLE001 - as in _decide
            self.performer.say("bug", f"djsup's mistake, at {action}", Level.ERROR, details=format_exc())

    def _show(self, seen: asyncio.Future[Snapshot] | None) -> None:
        """Let those who wait for a change look at it."""
        if seen is not None and not seen.done():
            seen.set_result(Snapshot(self._daemon_snapshot(), self.outline()))
        self._changed.set()
        self._changed = asyncio.Event()
        self._tell_ready()
        if self.fleet.settings is not None:
            self.service.look(self.outline)

    async def _open(self, settings: Settings) -> None:
        left = self._left
        if left is not None:
            self._go_on(left)  # before anything is waited for: children may have ended meanwhile
        signals.listen(self._signalled)
        loop = asyncio.get_running_loop()
        self.log.writer.trouble = lambda reason: loop.call_soon_threadsafe(self._log_trouble, reason)
        self.archive.trouble = lambda reason: loop.call_soon_threadsafe(self._archive_trouble, reason)
        self.archive.start()
        await self._control.start(fd=None if left is None else left.control)
        await self._dashboard_control.start(
            owner=own_processes.dashboard_uid(settings.dashboard),
            fd=None if left is None else left.dashboard_control,
        )
        self.in_background(self._look_every_second())
        self.in_background(self.service.show_life())
        if left is not None:
            self._succeed(left, settings)
            return
        self.log.say(f"djsup {djsup.__version__} starts", pid=self.pid, config=settings.file)
        self._adopt_settings(settings)
        # Before whatever was asked for meanwhile: else a stop would not find what it has to end.
        if adopted := await self._adoption.gather(self._estates.read()):
            self._handle(events.SitesAdopted(adopted))
        self.performer.router.inherit(settings)
        self._handle(events.SettingsChanged(settings, "start"))
        self._adoption.over()
        self._estates.forget_others()
        self.service.drop_names(self.performer.listeners.drop_kept(STORED))
        self._show(None)

    def _go_on(self, left: Bequest) -> None:
        """Hold what the program held that ran before in this process."""
        self._adopt_settings(left.settings, left.handed_at_wall)
        self.performer.go_on(left.holdings)
        if left.series is not None:
            with suppress(OSError, ValueError):  # then the series have a gap
                self.observer.recorder.recall(succession.read(left.series))
            os.close(left.series)
        self.observer.count_on(left.figures.sites, left.figures.overdue)
        for site, kind, number in left.figures.events:
            self.history.counts[site, kind] = number
        self.log.recall(left.lines)
        self.service.keep_on(address for address, _ in left.holdings.listeners)

    def _succeed(self, left: Bequest, settings: Settings) -> None:
        """Go on where it was, with the settings as they are now."""
        self.performer.router.inherit(left.settings, left.figures.routed)
        self._handle(upgrade.succeed(left))
        if settings != left.settings:
            self._adopt_settings(settings)
            self._handle(events.SettingsChanged(settings, left.by))
        self._estates.forget_others()
        self.upgrades.succeeded(left)
        self._left = None
        self._show(None)

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self._control.stop()
        await self._dashboard_control.stop()
        self._adoption.close()
        if self.performer.quitting:
            self._estates.clear()
        self.performer.close()
        signals.stop()
        self.log.say("djsup has stopped", pid=self.pid)
        self.observer.recorder.close()
        self.archive.close()
        self.log.writer.close()

    # --- another program ----------------------------------------------------------------------

    def may_upgrade(self) -> str:
        """Why the program can't be replaced now; empty: it can."""
        if self._stopping:
            return "djsup stops"
        if self.fleet.settings is None:
            return "djsup has only just started, and is not done with what an earlier daemon has left"
        if missing := self._adoption.missing:
            pids = ", ".join(str(pid) for pid in missing)
            return (
                f"an earlier daemon has left processes that have not called yet (pid {pids}): try again later"
            )
        return ""

    def bequeath(self, by: str, number: int) -> Bequest:
        """All that the program needs to know that replaces this one."""
        assert self.fleet.settings is not None
        sites, last_proc, dashboard, keeper = self.fleet.bequest()
        figures, overdue = self.observer.counted()
        counts = tuple((site, kind, count) for (site, kind), count in self.history.counts.items())
        return Bequest(
            format=FORMAT,
            version=djsup.__version__,
            messages=digest(),
            number=number,
            by=by,
            handed_at=time.monotonic(),
            handed_at_wall=time.time(),
            started_at=self._started_at,
            started=self._started,
            settings=self.fleet.settings,
            sites=sites,
            last_proc=last_proc,
            dashboard=dashboard,
            holdings=self.performer.holdings(),
            figures=Figures(tuple(figures), tuple(overdue), counts, self.performer.router.counted),
            lines=tuple(self.log.kept(None, LINES_MAX)),
            lock=self._lock,
            control=self._control.fd,
            dashboard_control=self._dashboard_control.fd,
            ready_fd=self._ready_fd,
            keeper=keeper,
        )

    async def answer(self) -> None:
        """Take no more questions, and answer those that can be answered soon."""
        for control in (self._control, self._dashboard_control):
            await control.pause()

    def hold(self) -> str:
        """Act no more: what has happened is handled, and what was said is written. Gives ``may_upgrade``."""
        self.timetable.look(time.time(), time.monotonic())
        for process in self.performer.roster.values():
            if process.stacks is not None:
                process.stacks.finish()
        while not self._queue.empty():
            event, seen = self._queue.get_nowait()
            self._handle(event)
            self._show(seen)
        self.log.writer.close()
        self.observer.recorder.close()
        self.archive.close()
        return self.may_upgrade()

    def release(self) -> None:
        """Act again, and answer."""
        for control in (self._control, self._dashboard_control):
            self.in_background(control.resume())
        self.log.writer.resume()
        self.archive.start()
        # Whoever waits for the next event may have been robbed of the last.
        self.tell(events.DeadlinePassed())

    @property
    def words(self) -> tuple[str, ...]:
        """How the daemon was started: the options of ``djsup start``."""
        return ("-c", str(self._file), "--runtime-dir", self._runtime_dir)

    @property
    def variables(self) -> dict[str, str]:
        """What was taken out of its environment."""
        return self.service.variables

    # --- what others call ---------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Put an event into the queue."""
        self._queue.put_nowait((event, None))

    async def tell_and_see(self, event: Event) -> Snapshot:
        """Put an event into the queue; the picture just after it was handled."""
        seen: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((event, seen))
        return await seen

    async def reread(
        self, by: str, sites: frozenset[SiteName] | None, canary_s: float | None = None
    ) -> Snapshot:
        """Read the configuration again and have it handled; an invalid one changes nothing.

        Raises:
            Refused: the configuration is not valid.
        """
        async with self.rereading:
            try:
                loaded = await self._load("nothing is changed")
            except Refused as refused:
                text = f"{self._file}: {len(refused.problems)} mistake(s), nothing is changed"
                details = "\n".join(refused.problems)
                self.performer.say("settings-refused", text, Level.ERROR, details=details)
                raise
            for warning in loaded.warnings:
                self.performer.say("warning", str(warning), Level.WARNING)
            if loaded.settings.runtime_dir != self._runtime_dir:
                text = (
                    f"{self._file}: runtime_dir is {loaded.settings.runtime_dir} now; this daemon stays in "
                    f"{self._runtime_dir} until it is stopped and started again"
                )
                self.performer.say("warning", text, Level.WARNING)
            self._adopt_settings(loaded.settings)
            names = frozenset(site.name for site in loaded.settings.sites)
            reload = names if sites is None else sites & names
            return await self.tell_and_see(events.SettingsChanged(loaded.settings, by, reload, canary_s))

    async def forecast(self, sites: frozenset[SiteName] | None) -> dict[str, Any]:
        """What such a reload would change; changes nothing.

        Raises:
            Refused: the configuration is not valid.
        """
        loaded = await self._load("a reload would change nothing")
        running = self.fleet.running()
        if running is None:
            raise Refused("the sites are not started yet", 1)
        stopped = frozenset(SiteName(site.name) for site in self.outline() if site.stopped_by is not None)
        return difference.to_json(difference.between(running, loaded.settings, sites, stopped))

    async def _load(self, consequence: str) -> config.Loaded:
        """Read the configuration; one with mistakes is Refused, with this ``consequence`` of them."""
        try:
            return await asyncio.to_thread(config.load, self._file, os.environ)
        except config.ConfigError as error:
            problems = tuple(str(problem) for problem in error.problems)
            raise Refused(f"the configuration is not valid; {consequence}", 2, problems) from error

    def stop(self, by: str, *, at_once: bool = False) -> None:
        """Have everything end, after ``stop_delay``."""
        self._stopping = True
        self.service.stopping()
        self.farewell.ask(by, self.fleet.settings, at_once=at_once)

    def stop_delay_s(self, *, at_once: bool) -> float:
        """How long it would be, asked now, before the end begins."""
        return self.farewell.delay_s(self.fleet.settings, at_once=at_once)

    def snapshot(self) -> Snapshot:
        """The picture now, with every figure."""
        now = time.monotonic()
        sites = tuple(
            self.timetable.complete(self.observer.complete(site, now)) for site in self.fleet.snapshot(now)
        )
        return Snapshot(self._daemon_snapshot(), sites)

    def outline(self) -> tuple[SiteSnapshot, ...]:
        """The sites now, without figures."""
        return self.fleet.snapshot(time.monotonic())

    def disclose(self) -> dict[str, Any]:
        """What may be seen of the daemon itself from afar."""
        picture = Snapshot(self._daemon_snapshot(), ())
        listeners = self.performer.listeners
        return disclose(picture, self.fleet.settings, listeners, self.observer, Path(self._runtime_dir))

    @property
    def doorkeeper(self) -> Doorkeeper:
        """Knows the dashboard's tokens."""
        return self.performer.doorkeeper

    def access_log(self, site: SiteName) -> Path | None:
        """Where the access log of a site is; None: none is written."""
        return self.performer.access.path(site)

    async def change(self) -> None:
        """Wait until something has happened."""
        await self._changed.wait()

    # --- what happens -------------------------------------------------------------------------

    def _signalled(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGCHLD:
                self.performer.processes.reap_strays()
            case signal.SIGHUP:
                self.in_background(self._reread_for_signal())
            case signal.SIGTERM:
                self.stop("SIGTERM")
            case signal.SIGINT | signal.SIGQUIT:
                self.stop(number.name, at_once=True)
            case signal.SIGUSR1:
                self.log.writer.reopen()
                self.performer.tell_access(self.performer.access.reopen())
                self.log.say("log files are opened again", by="SIGUSR1")
            case signal.SIGTTIN | signal.SIGTTOU:
                step = 1 if number is signal.SIGTTIN else -1
                for site in self.outline():
                    self.tell(events.ScaleAsked(SiteName(site.name), step, number.name, relative=True))
            case signal.SIGUSR2:
                self.in_background(self._upgrade_for_signal())
            case _:
                self.log.say(f"{number.name} has no effect yet", "warning")

    async def _reread_for_signal(self) -> None:
        self.service.reloading()
        with suppress(Refused):  # said already, with every mistake
            await self.reread("SIGHUP", None)
        self._show(None)

    async def _upgrade_for_signal(self) -> None:
        with suppress(Refused):  # said already
            await self.upgrades.prove("SIGUSR2")
            await self.upgrades.go("SIGUSR2")

    async def _look_every_second(self) -> None:
        while True:
            await asyncio.sleep(to_next_look_s(time.time()))
            try:
                self._look()
            except Exception:  # noqa: BLE001 - a second without a look is no harm, to look no more would be
                self.performer.say(
                    "bug", "djsup's mistake, at its look around", Level.ERROR, details=format_exc()
                )

    def _look(self) -> None:
        self.performer.keyring.look()
        self.performer.doorkeeper.look()
        self.timetable.look(time.time(), time.monotonic())
        self.performer.processes.look_at_memory()
        self.service.say_again()
        if self._unwritten:
            self._write_estates()
        if self.fleet.settings is not None:
            self.observer.look(self.fleet.settings)
            self.performer.tell_access(self.performer.access.rotate())

    def _adopt_settings(self, settings: Settings, wall: float | None = None) -> None:
        self.performer.dashboard = settings.dashboard
        self.performer.doorkeeper.adopt(settings.dashboard)
        self.performer.tell_keeper(settings)
        self.performer.router.adopt(settings)
        self.performer.connect_to_router()
        self.log.settings = settings.log
        self.performer.keyring.adopt(settings)
        self.timetable.adopt(settings, time.time() if wall is None else wall)
        self.performer.tell_access(self.performer.access.adopt(settings))

    def _write_estates(self) -> None:
        """Write down what would be left if we were killed now."""
        self._unwritten |= self.fleet.take_estates()
        for site, estate in list(self._unwritten.items()):
            try:
                self._estates.write(site, estate)
                del self._unwritten[site]
            except OSError as error:
                text = f'site "{site}": cannot write what a daemon would need that is started after our death: {error}'
                if error.errno != self._estate_trouble:
                    self.performer.say("estate-trouble", text, Level.WARNING, site)
                self._estate_trouble = error.errno

    def _keep(self, entry: Entry) -> None:
        """An event has happened: it is to outlive us."""
        self.archive.add(entry.id, entry.at, entry.to_json())
        self.deploys.see(entry)

    def _last_reload(self, site: str) -> ReloadReport | None:
        """How the last reload of a site went, or goes."""
        return self.fleet.last_reload(SiteName(site))

    def _log_trouble(self, reason: str) -> None:
        """The log can't be written, so the event list says it; serving goes on."""
        self.history.add("log-trouble", reason, level="error")

    def _archive_trouble(self, reason: str) -> None:
        """Events are kept in memory alone; serving goes on."""
        self.performer.say("history-trouble", reason, Level.ERROR)

    # --- small things -------------------------------------------------------------------------

    def in_background(self, story: Coroutine[None, None, None]) -> None:
        """Have something done that nobody waits for."""
        task = asyncio.get_running_loop().create_task(story)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _may_control(self, peer: Peer) -> bool:
        return peer.uid in (0, os.geteuid())

    def _daemon_snapshot(self) -> DaemonSnapshot:
        settings = self.fleet.settings
        dashboard = settings.dashboard if settings is not None else None
        return DaemonSnapshot(
            pid=self.pid,
            version=djsup.__version__,
            started_at=self._started_at,
            uptime_s=round(time.monotonic() - self._started, 3),
            config=str(self._file),
            dashboard=None if dashboard is None else f"http://{dashboard.listen}/",
        )

    def _tell_ready(self) -> None:
        """Once: every site serves or has failed, and whoever started us waits to know."""
        if self._ready_fd is None or self.fleet.settings is None or not self._queue.empty():
            return  # while a thousand sites start, not after each event of theirs
        sites = self.outline()
        if not all(site.state in SETTLED for site in sites):
            return
        failed = {SiteState.FAILED, SiteState.BACKING_OFF}
        line = {
            "ok": not any(site.state in failed for site in sites),
            "sites": {site.name: site.error or site.state.value for site in sites},
        }
        with suppress(BrokenPipeError):  # whoever started us did not stay to hear it
            os.write(self._ready_fd, json.dumps(line).encode() + b"\n")
        os.close(self._ready_fd)
        self._ready_fd = None


def _raise_descriptor_limit() -> None:
    """As many open files as we may have: each worker takes four of the daemon's."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
