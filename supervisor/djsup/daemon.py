"""The daemon: next event -> fleet.handle -> perform each action; sleeps until the fleet's deadline.

This is the story; the fleet (``djsup.core.fleet``) decides, the performer does, the observer measures,
the desk answers operators. Signals, messages, exits and timers enter one queue.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from traceback import format_exc
from typing import TYPE_CHECKING

import djsup
from djsup import config
from djsup.adoption import Adoption
from djsup.core import events
from djsup.core.actions import Action, Level
from djsup.core.fleet import Fleet
from djsup.core.model import SiteName
from djsup.core.snapshot import DaemonSnapshot, SiteState, Snapshot
from djsup.desk import Desk
from djsup.observer import SAMPLE_S, Observer
from djsup.performer import Performer
from djsup.service import STORED, Service
from djsup.shell import inherited, signals
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

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from djsup.core.events import Event
    from djsup.core.model import Settings
    from djsup.core.snapshot import SiteSnapshot

SETTLED = {SiteState.SERVING, SiteState.DEGRADED, SiteState.FAILED, SiteState.BACKING_OFF, SiteState.SLEEPING}


def run(settings: Settings, warnings: Sequence[str] = (), *, ready_fd: int | None = None) -> int:
    """Run the daemon until it is told to stop; the exit status.

    Args:
        settings: the valid configuration.
        warnings: what was odd about it, for the log.
        ready_fd: where one line of JSON goes once every site serves or has failed:
            ``{"ok": bool, "sites": {NAME: STATE, or the error}}``.
    """
    try:
        runtime = RuntimeDirectory(Path(settings.runtime_dir))
    except (RuntimeTaken, RuntimeUnusable) as error:
        sys.stderr.write(f"djsup: {error}\n")
        return 1
    try:
        return asyncio.run(_run(runtime, settings, warnings, ready_fd))
    finally:
        runtime.release()


async def _run(
    runtime: RuntimeDirectory, settings: Settings, warnings: Sequence[str], ready_fd: int | None
) -> int:
    become_subreaper()
    _raise_descriptor_limit()
    daemon = Daemon(runtime, settings, ready_fd)
    for warning in warnings:
        daemon.performer.say("warning", warning, Level.WARNING)
    await daemon.live(settings)
    return 0


class Daemon:
    """The one long-lived process."""

    def __init__(self, runtime: RuntimeDirectory, settings: Settings, ready_fd: int | None) -> None:
        self.pid = os.getpid()
        self.history = History()
        self.archive = Archive(runtime.events)
        self.history.recall(self.archive.recall(KEPT))
        self.history.keep = lambda entry: self.archive.add(entry.id, entry.at, entry.to_json())
        self.log = Logs(settings.log, Writer())
        self.fleet = Fleet()
        self.performer = Performer(runtime, self.tell, self.log, self.history, inherited.take(os.environ))
        self.service = Service(Notify(os.environ))
        self.performer.listeners.bound = self.service.keep
        self.performer.listeners.closed = self.service.drop
        self.observer = Observer(self.performer, self.tell)
        self.timetable = Timetable(self.tell)
        self.tracer = Tracer(self.performer)
        self._estates = Estates(runtime.estates, djsup.__version__)
        self._estate_trouble: int | None = None
        self._adoption = Adoption(runtime, self.performer, djsup.__version__)
        self._file = Path(settings.file)
        self._runtime_dir = settings.runtime_dir
        self._queue: asyncio.Queue[tuple[Event, asyncio.Future[Snapshot] | None]] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._started_at = time.time()
        self._started = time.monotonic()
        self._ready_fd = ready_fd
        self._tasks: set[asyncio.Task[None]] = set()
        self._rereading = asyncio.Lock()
        desk = Desk(self)
        self._control = Control(runtime.control, self._may_control, desk.answer)
        self._dashboard_control = Control(
            runtime.dashboard_control, self.performer.may_use_dashboard_socket, desk.answer
        )

    # --- the story ----------------------------------------------------------------------------

    async def live(self, settings: Settings) -> None:
        """Start the sites, go on until everything has ended."""
        await self._open(settings)
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
        if isinstance(event, events.StopAsked):
            self.service.stopping()
        for action in self._decide(event):
            self.performer.perform(action)
        self._write_estates()

    def _decide(self, event: Event) -> list[Action]:
        try:
            return self.fleet.handle(event, time.monotonic())
        except Exception:  # noqa: BLE001 - our own mistake must not end the care for thirty sites
            self.performer.say("bug", f"djsup's mistake, at {event}", Level.ERROR, details=format_exc())
            return []

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
        signals.listen(self._signalled)
        loop = asyncio.get_running_loop()
        self.log.writer.trouble = lambda reason: loop.call_soon_threadsafe(self._log_trouble, reason)
        self.archive.trouble = lambda reason: loop.call_soon_threadsafe(self._archive_trouble, reason)
        self.archive.start()
        await self._control.start()
        await self._dashboard_control.start(owner=self.performer.dashboard_uid(settings.dashboard))
        self._in_background(self._look_every_second())
        self._in_background(self.service.show_life())
        self.log.say(f"djsup {djsup.__version__} starts", pid=self.pid, config=settings.file)
        self._adopt_settings(settings)
        # Before whatever was asked for meanwhile: else a stop would not find what it has to end.
        if adopted := await self._adoption.gather(self._estates.read()):
            self._handle(events.SitesAdopted(adopted))
        self.performer.inherit_from_router(settings)
        self._handle(events.SettingsChanged(settings, "start"))
        self._estates.forget_others()
        self.service.drop_names(self.performer.listeners.drop_kept(STORED))
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
        self.log.say("djsup has stopped", pid=self.pid)
        self.archive.close()
        self.log.writer.close()

    # --- what others call ---------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Put an event into the queue."""
        self._queue.put_nowait((event, None))

    async def tell_and_see(self, event: Event) -> Snapshot:
        """Put an event into the queue; the picture just after it was handled."""
        seen: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((event, seen))
        return await seen

    async def reread(self, by: str, sites: frozenset[SiteName] | None) -> Snapshot:
        """Read the configuration again and have it handled; an invalid one changes nothing.

        Raises:
            Refused: the configuration is not valid.
        """
        async with self._rereading:
            try:
                loaded = await asyncio.to_thread(config.load, self._file, os.environ)
            except config.ConfigError as error:
                problems = tuple(str(problem) for problem in error.problems)
                self.performer.say(
                    "settings-refused",
                    f"{self._file}: {len(problems)} mistake(s), nothing is changed",
                    Level.ERROR,
                    details="\n".join(problems),
                )
                raise Refused("the configuration is not valid; nothing is changed", 2, problems) from error
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
            return await self.tell_and_see(events.SettingsChanged(loaded.settings, by, reload))

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
                self._in_background(self._reread_for_signal())
            case signal.SIGTERM:
                self.tell(events.StopAsked("SIGTERM"))
            case signal.SIGINT | signal.SIGQUIT:
                self.tell(events.StopAsked(number.name, at_once=True))
            case signal.SIGUSR1:
                self.log.writer.reopen()
                self.performer.tell_access(self.performer.access.reopen())
                self.log.say("log files are opened again", by="SIGUSR1")
            case signal.SIGTTIN | signal.SIGTTOU:
                step = 1 if number is signal.SIGTTIN else -1
                for site in self.outline():
                    self.tell(events.ScaleAsked(SiteName(site.name), step, number.name, relative=True))
            case _:
                self.log.say(f"{number.name} has no effect yet", "warning")

    async def _reread_for_signal(self) -> None:
        self.service.reloading()
        with suppress(Refused):  # said already, with every mistake
            await self.reread("SIGHUP", None)
        self._show(None)

    async def _look_every_second(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self.performer.keyring.look()
            self.timetable.look(time.time(), time.monotonic())
            self.performer.processes.look_at_memory()
            self.service.say_again()
            if self.fleet.settings is not None:
                self.observer.look(self.fleet.settings)
                self.performer.tell_access(self.performer.access.rotate())

    def _adopt_settings(self, settings: Settings) -> None:
        self.performer.dashboard = settings.dashboard
        self.performer.orphan_grace_s = settings.orphan_grace_s
        self.performer.router.adopt(settings)
        self.performer.connect_to_router()
        self.log.settings = settings.log
        self.performer.keyring.adopt(settings)
        self.timetable.adopt(settings, time.time())
        self.performer.tell_access(self.performer.access.adopt(settings))

    def _write_estates(self) -> None:
        """Write down what would be left if we were killed now."""
        for site, estate in self.fleet.take_estates().items():
            try:
                self._estates.write(site, estate)
            except OSError as error:
                text = f'site "{site}": cannot write what a daemon would need that is started after our death: {error}'
                if error.errno != self._estate_trouble:
                    self.performer.say("estate-trouble", text, Level.WARNING, site)
                self._estate_trouble = error.errno

    def _log_trouble(self, reason: str) -> None:
        """The log can't be written, so the event list says it; serving goes on."""
        self.history.add("log-trouble", reason, level="error")

    def _archive_trouble(self, reason: str) -> None:
        """Events are kept in memory alone; serving goes on."""
        self.performer.say("history-trouble", reason, Level.ERROR)

    # --- small things -------------------------------------------------------------------------

    def _in_background(self, story: Coroutine[None, None, None]) -> None:
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
