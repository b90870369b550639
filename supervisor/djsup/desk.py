"""The desk: what an operator may ask over the control socket, one method a verb.

Each verb is an async generator of the answer's lines; the last has the key ``result``. A verb never
changes anything itself: it tells the daemon an event, as a signal does.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol

from djsup import __version__, profiler
from djsup.core import events
from djsup.core.model import SiteName
from djsup.core.snapshot import DAY_S, ReloadResult, SiteSnapshot, SiteState, to_json
from djsup.figures import figures
from djsup.records import Records
from djsup.shell.control import Peer, Refused
from djsup.shell.tail import Tail

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
    from pathlib import Path

    from djsup.core.events import Event
    from djsup.core.snapshot import ProgramSnapshot, Snapshot
    from djsup.deploys import Deploys
    from djsup.doorkeeper import Doorkeeper
    from djsup.observer import Observer
    from djsup.profiler import Profiler
    from djsup.shell.archive import Archive
    from djsup.shell.history import Entry, History
    from djsup.shell.logs import Line, Logs
    from djsup.tracer import Tracer
    from djsup.upgrade import Upgrades

    Answer = AsyncGenerator[dict[str, Any], None]

WATCH_MIN_S = 0.25
TAIL_S = 0.5
"""How often an access log that is followed is looked at: nothing tells when it grows."""
LIMIT_MAX = 5000
CANARY_MIN_S = 0.1


class Daemon(Protocol):
    """What the desk needs of the daemon."""

    pid: int
    log: Logs
    history: History
    archive: Archive
    deploys: Deploys
    tracer: Tracer
    profiler: Profiler
    observer: Observer
    upgrades: Upgrades

    async def tell_and_see(self, event: Event) -> Snapshot:
        """Have an event handled; the picture just after it."""

    async def reread(
        self, by: str, sites: frozenset[SiteName] | None, canary_s: float | None = None
    ) -> Snapshot:
        """Read the configuration again, have it handled, and these sites' code (None: all) loaded anew.

        With ``canary_s`` new code is tried for so long (0: not at all), whatever the settings say.
        """

    async def forecast(self, sites: frozenset[SiteName] | None) -> dict[str, Any]:
        """What such a reload would change; nothing is changed."""

    def stop(self, by: str, *, at_once: bool = False) -> None:
        """Have everything end, after ``stop_delay``."""

    def stop_delay_s(self, *, at_once: bool) -> float:
        """How long it would be, asked now, before the end begins."""

    def access_log(self, site: SiteName) -> Path | None:
        """Where the access log of a site is; None: none is written."""

    def snapshot(self) -> Snapshot:
        """The picture now, with every figure."""

    def outline(self) -> tuple[SiteSnapshot, ...]:
        """The sites now, without figures: cheap."""

    async def change(self) -> None:
        """Wait until something has happened."""

    def disclose(self) -> dict[str, Any]:
        """What may be seen of the daemon itself from afar."""

    @property
    def doorkeeper(self) -> Doorkeeper:
        """Knows the dashboard's tokens."""

    def in_background(self, story: Coroutine[None, None, None]) -> None:
        """Have something done that nobody waits for."""


class Desk:
    """Answers requests."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._records = Records(daemon)
        self._verbs: dict[str, Callable[[dict[str, Any], str], Answer]] = {
            "ping": self.ping,
            "status": self.status,
            "watch": self.watch,
            "reload": self.reload,
            "plan": self.plan,
            "rollback": self.rollback,
            "restart": self.restart,
            "scale": self.scale,
            "run": self.run,
            "stop": self.stop,
            # Not "stop" with names: a daemon that knows of none would stop everything.
            "stop_sites": self.stop_sites,
            "start_sites": self.start_sites,
            "events": self.events,
            "logs": self.logs,
            "trace": self.trace,
            "profile": self.profile,
            "metrics": self.metrics,
            "daemon": self.daemon,
            "tokens": self.tokens,
            **self._records.verbs(),
            "upgrade": self.upgrade,
        }

    def answer(self, request: dict[str, Any], peer: Peer) -> Answer:
        """The lines that answer one request.

        Raises:
            Refused: there is no such verb.
        """
        verb = self._verbs.get(request["verb"])
        if verb is None:
            raise Refused(f"no verb {request['verb']!r}; there are: {', '.join(self._verbs)}", 2)
        through = "dashboard" if request.get("by") == "dashboard" else "cli"
        return verb(request, f"{peer.user} ({through})")

    async def ping(self, _request: dict[str, Any], _by: str) -> Answer:
        """Who is there."""
        last = self._daemon.upgrades.last
        upgrade = {} if last is None else {"upgrade": last.to_json()}
        yield {"result": {"pid": self._daemon.pid, "version": __version__, **upgrade}}

    async def upgrade(self, _request: dict[str, Any], by: str) -> Answer:
        """Replace the daemon's program by the one that is installed; answers before it does, if that one can go on.

        What comes of it, ``ping`` tells by its number.
        """
        number, version = await self._daemon.upgrades.prove(by)
        # Before it is answered, for who has asked may be gone; it waits for the answer.
        self._daemon.in_background(self._daemon.upgrades.go(by))
        yield {"result": {"number": number, "from": __version__, "to": version}}

    async def status(self, request: dict[str, Any], _by: str) -> Answer:
        """The picture now, of all sites or of one."""
        picture = to_json(self._daemon.snapshot())
        if request.get("site") is not None:
            site = self._site(request)
            picture["sites"] = [each for each in picture["sites"] if each["name"] == site]
        yield {"result": picture}

    async def watch(self, request: dict[str, Any], _by: str) -> Answer:
        """The picture again and again: each interval, and soon after something has happened."""
        interval_s = min(3600.0, max(WATCH_MIN_S, self._number(request, "interval_s", 1.0)))
        while True:
            yield {"snapshot": to_json(self._daemon.snapshot())}
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await asyncio.sleep(WATCH_MIN_S)
                    await self._daemon.change()

    async def reload(self, request: dict[str, Any], by: str) -> Answer:
        """New settings and code; waits for the outcome unless told otherwise."""
        wanted = self._sites(request)
        for name in wanted:
            self._not_stopped(name, "is not reloaded")
        history = self._daemon.history
        progress = history.follow()
        try:
            sites = frozenset(wanted) if request.get("sites") else None
            picture = await self._daemon.reread(by, sites, self._canary_s(request))
            begun = {
                site.name: site
                for site in picture.sites
                if (site.name in wanted or not request.get("sites"))
                and (site.state is not SiteState.STOPPING or site.stopped_by is not None)
            }
            if request.get("wait", True) is False:
                yield {"result": {"sites": [_started(site) for site in begun.values()]}}
                return
            async for answer in self._outcomes(begun, progress):
                yield answer
        finally:
            history.unfollow(progress)

    async def plan(self, request: dict[str, Any], _by: str) -> Answer:
        """What a reload would change, and what that costs; changes nothing."""
        wanted = frozenset(self._sites(request))
        yield {"result": await self._daemon.forecast(wanted or None)}

    async def rollback(self, request: dict[str, Any], by: str) -> Answer:
        """The code back that served before; waits for the outcome unless told otherwise."""
        name = self._site(request)
        self._not_stopped(name, "cannot go back")
        before = next(site for site in self._daemon.outline() if site.name == name)
        if not before.previous_generation:
            raise Refused(
                f'site "{name}" cannot go back: no former generation is kept. One is kept after a reload for '
                "keep_previous, if it was loaded by a template and listened where the site listens now",
                1,
            )
        history = self._daemon.history
        progress = history.follow()
        try:
            picture = await self._daemon.tell_and_see(events.RollbackAsked(name, by))
            begun = {site.name: site for site in picture.sites if site.name == name}
            if request.get("wait", True) is False:
                yield {"result": {"sites": [_started(site) for site in begun.values()]}}
                return
            async for answer in self._outcomes(begun, progress):
                yield answer
        finally:
            history.unfollow(progress)

    async def _outcomes(self, begun: dict[str, SiteSnapshot], progress: asyncio.Queue[Entry]) -> Answer:
        """How the reloads end that ``begun`` shows, with what happens meanwhile."""
        finished: dict[str, dict[str, Any]] = {}
        with self._daemon.upgrades.put_off():
            while len(finished) < len(begun):
                while not progress.empty():
                    entry = progress.get_nowait()
                    if entry.site in begun:
                        yield {"progress": {"site": entry.site, "text": entry.text}}
                now = {site.name: site for site in self._daemon.outline()}
                for name, before in begun.items():
                    outcome = _outcome(before, now.get(name))
                    if name not in finished and outcome is not None:
                        finished[name] = outcome
                if len(finished) < len(begun):
                    await self._daemon.change()
            yield {"result": {"sites": [finished[name] for name in begun]}}

    async def stop_sites(self, request: dict[str, Any], by: str) -> Answer:
        """Drain and end these sites, or end them at once; waits until they have stopped, unless told otherwise."""
        at_once = bool(request.get("now"))
        async for answer in self._order(
            request, lambda name: events.SiteStopAsked(name, by, at_once), starts=False
        ):
            yield answer

    async def start_sites(self, request: dict[str, Any], by: str) -> Answer:
        """Have these sites serve again that were stopped; waits until they do or have failed, unless told otherwise."""
        async for answer in self._order(request, lambda name: events.SiteStartAsked(name, by), starts=True):
            yield answer

    async def _order(
        self, request: dict[str, Any], order: Callable[[SiteName], Event], *, starts: bool
    ) -> Answer:
        """Tell sites to stop or to start, and say what came of it, with what happens meanwhile."""
        names = list(dict.fromkeys(self._sites(request)))
        if not names:
            raise Refused("sites is empty; name one at least", 2)
        history = self._daemon.history
        progress = history.follow()
        try:
            before = {site.name: site for site in self._daemon.outline()}
            await asyncio.gather(*(self._daemon.tell_and_see(order(name)) for name in names))
            with self._daemon.upgrades.put_off():
                while True:
                    while not progress.empty():
                        entry = progress.get_nowait()
                        if entry.site in names:
                            yield {"progress": {"site": entry.site, "text": entry.text}}
                    # Looked at last before the wait, for what is missed here may be the last change.
                    now = {site.name: site for site in self._daemon.outline()}
                    if request.get("wait", True) is False or all(
                        _arrived(now.get(name), starts=starts) for name in names
                    ):
                        break
                    await self._daemon.change()
                sites = [_came_of_it(name, before[name], now.get(name), starts=starts) for name in names]
                yield {"result": {"sites": sites}}
        finally:
            history.unfollow(progress)

    async def restart(self, request: dict[str, Any], by: str) -> Answer:
        """Stop and start one site; waits until it serves or has failed, unless told otherwise."""
        name = self._site(request)
        await self._daemon.tell_and_see(events.RestartAsked(name, by))
        site = next((each for each in self._daemon.outline() if each.name == name), None)
        before = 0 if site is None else site.generation
        while request.get("wait", True) is not False and site is not None:
            settled = {SiteState.SERVING, SiteState.FAILED, SiteState.BACKING_OFF, SiteState.STOPPED}
            if site.state in settled and (site.state is not SiteState.SERVING or site.generation != before):
                break
            await self._daemon.change()
            site = next((each for each in self._daemon.outline() if each.name == name), None)
        state = SiteState.STOPPED.value if site is None else site.state.value
        yield {"result": {"site": name, "state": state, "error": None if site is None else site.error}}

    async def scale(self, request: dict[str, Any], by: str) -> Answer:
        """Another number of workers: absolute, or relative as "+1" and "-1"."""
        name = self._site(request)
        workers = request.get("workers")
        relative = isinstance(workers, str) and workers[:1] in "+-"
        try:
            number = int(workers)  # type: ignore[arg-type]  # whatever came: refused below
        except (TypeError, ValueError) as error:
            raise Refused(
                f"workers is {workers!r}; it must be a number, or relative as +1 and -1", 2
            ) from error
        if not relative and number < 1:
            raise Refused(f"workers is {number}; it must be at least 1", 2)
        self._not_stopped(name, "is not scaled")
        picture = await self._daemon.tell_and_see(events.ScaleAsked(name, number, by, relative))
        asked = next((site.workers_asked for site in picture.sites if site.name == name), 0)
        yield {"result": {"site": name, "workers": asked}}

    async def run(self, request: dict[str, Any], by: str) -> Answer:
        """Run a scheduled command now; what it prints, then how it went."""
        site, name = self._site(request), str(request.get("program"))
        self._not_stopped(site, f"program {name} is not run")
        before = self._program(site, name)
        log = self._daemon.log.follow()
        try:
            picture = await self._daemon.tell_and_see(events.RunAsked(site, name, by))
            shown = next(each for each in picture.sites if each.name == site)
            begun = next((each for each in shown.programs if each.name == name), None)
            if begun is None or begun.state == "waiting" or before.state != "waiting":
                reason = (
                    "a run of it is not over yet" if before.state != "waiting" else "its site does not serve"
                )
                raise Refused(f'site "{site}": program {name} is not run: {reason}', 1)
            while True:
                for line in self._printed(log, site, name):
                    yield line
                # Looked at last: what happens while a line is on its way must not be waited for.
                now = next((each for each in self._programs(site) if each.name == name), None)
                if now is None or now.runs != before.runs or request.get("wait", True) is False:
                    break
                await self._daemon.change()
            for line in self._printed(log, site, name):
                yield line
            if now is None:
                gone = "the site was stopped, or its table taken away, while it ran"
                raise Refused(f'site "{site}": program {name} was ended: {gone}', 1)
            ended = now.runs != before.runs
            outcome = {"well": now.last_well, "text": now.last_result} if ended else {}
            yield {"result": {"site": site, "program": name, "ended": ended, **outcome}}
        finally:
            self._daemon.log.unfollow(log)

    @staticmethod
    def _printed(log: asyncio.Queue[Line], site: SiteName, name: str) -> Iterator[dict[str, Any]]:
        """What a scheduled command has printed since this was asked last."""
        while not log.empty():
            line = log.get_nowait()
            if line.site == site and line.program == f"{name}/0":
                yield {"log": line.to_json()}

    async def stop(self, request: dict[str, Any], by: str) -> Answer:
        """Drain and end everything, or end at once; ``delay_s`` is how long it is before that begins."""
        at_once = bool(request.get("now"))
        yield {"result": {"delay_s": self._daemon.stop_delay_s(at_once=at_once)}}
        self._daemon.stop(by, at_once=at_once)

    async def events(self, request: dict[str, Any], _by: str) -> Answer:
        """What happened; with ``before``, ``from`` or ``to`` a page of it, from the archive, too."""
        site, limit = self._filter(request)
        if any(request.get(key) is not None for key in ("before", "from", "to")):
            for event in await self._records.events(request, site):
                yield {"event": event}
            yield {"result": {}}
            return
        queue = self._daemon.history.follow()
        try:
            for entry in self._daemon.history.last(site, limit):
                yield {"event": entry.to_json()}
            while request.get("follow"):
                entry = await queue.get()
                if site is None or entry.site == site:
                    yield {"event": entry.to_json()}
        finally:
            self._daemon.history.unfollow(queue)
        yield {"result": {}}

    async def logs(self, request: dict[str, Any], _by: str) -> Answer:
        """What the sites printed; with ``access``, the access log of one."""
        site, limit = self._filter(request)
        if request.get("access"):
            follow = bool(request.get("follow"))
            async for answer in self._access_log(self._site(request), limit, follow=follow):
                yield answer
            return
        queue = self._daemon.log.follow()
        try:
            for line in self._daemon.log.kept(site, limit):
                yield {"log": line.to_json()}
            while request.get("follow"):
                line = await queue.get()
                if site is None or line.site == site:
                    yield {"log": line.to_json()}
        finally:
            self._daemon.log.unfollow(queue)
        yield {"result": {}}

    async def trace(self, request: dict[str, Any], _by: str) -> Answer:
        """What every thread of a site does at this moment."""
        yield {"result": await self._daemon.tracer.trace(self._site(request))}

    async def profile(self, request: dict[str, Any], by: str) -> Answer:
        """Where a site's threads spend a while; what was seen so far is told each second."""
        site = self._site(request)
        seconds = self._number(request, "seconds", profiler.SECONDS_DEFAULT)
        rate = self._number(request, "rate", profiler.RATE_DEFAULT)
        if not 1 <= seconds <= profiler.SECONDS_MAX:
            raise Refused(f"seconds is {seconds:g}; it must be from 1 to {profiler.SECONDS_MAX:g}", 2)
        if not 1 <= rate <= profiler.RATE_MAX:
            raise Refused(f"rate is {rate:g}; it must be from 1 to {profiler.RATE_MAX:g}", 2)
        try:
            looking = self._daemon.profiler.begin(site, seconds, rate, native=bool(request.get("native")))
        except profiler.CannotBegin as error:
            raise Refused(str(error), 1) from error
        self._daemon.history.add("profiled", f'site "{site}" is profiled for {seconds:g} s', site=site, by=by)
        async with aclosing(looking):
            async for each in looking:
                yield each

    async def metrics(self, _request: dict[str, Any], _by: str) -> Answer:
        """Counters and gauges of every site, for monitoring."""
        daemon = self._daemon
        yield {"result": figures(daemon.snapshot(), daemon.observer, daemon.history)}

    async def daemon(self, _request: dict[str, Any], _by: str) -> Answer:
        """The daemon's versions, listeners and configuration, secrets hidden."""
        yield {"result": self._daemon.disclose()}

    async def tokens(self, _request: dict[str, Any], _by: str) -> Answer:
        """The hashes of the dashboard's tokens, now and whenever they change: for the dashboard."""
        doorkeeper = self._daemon.doorkeeper
        while True:
            yield {"tokens": doorkeeper.hashes()}
            await doorkeeper.change()

    async def _access_log(self, site: SiteName, limit: int, *, follow: bool) -> Answer:
        path = self._daemon.access_log(site)
        if path is None:
            raise Refused(
                f'site "{site}" writes no access log: [log] names no directory, or access is "off"', 1
            )
        same = {"site": site, "slot": None, "pid": None, "stream": "access"}
        try:
            with Tail(path) as tail:
                lines = tail.last(limit)
                while True:
                    for line in lines:
                        yield {"log": {"at": None, **same, "text": line}}
                    if not follow:
                        break
                    lines = tail.more()
                    if not lines:
                        await asyncio.sleep(TAIL_S)
        except OSError as error:
            raise Refused(f"cannot read {path}: {error.strerror}", 1) from error
        yield {"result": {}}

    def _programs(self, site: SiteName) -> tuple[ProgramSnapshot, ...]:
        return next((each.programs for each in self._daemon.outline() if each.name == site), ())

    def _program(self, site: SiteName, name: str) -> ProgramSnapshot:
        """A scheduled command of a site, before it is run."""
        programs = self._programs(site)
        found = next((each for each in programs if each.name == name), None)
        if found is None:
            names = ", ".join(dict.fromkeys(each.name for each in programs)) or "none"
            raise Refused(f'site "{site}" has no program {name!r} now; there are: {names}', 2)
        if found.schedule is None:
            raise Refused(f'site "{site}": program {name} has no schedule: it is kept running', 2)
        return found

    # --- arguments ----------------------------------------------------------------------------

    def _known(self, name: object) -> SiteName:
        names = [site.name for site in self._daemon.outline()]
        if name not in names:
            raise Refused(f"no site {name!r}; there are: {', '.join(names) or 'none'}", 2)
        return SiteName(str(name))

    def _site(self, request: dict[str, Any]) -> SiteName:
        return self._known(request.get("site"))

    def _sites(self, request: dict[str, Any]) -> list[SiteName]:
        names = request.get("sites") or []
        if not isinstance(names, list):
            raise Refused(f"sites is {names!r}; it must be a list of names", 2)
        return [self._known(name) for name in names]

    def _not_stopped(self, name: SiteName, so: str) -> None:
        """What somebody has stopped is moved by nothing but a start.

        Raises:
            Refused: it was.
        """
        site = next((each for each in self._daemon.outline() if each.name == name), None)
        if site is not None and site.stopped_by is not None:
            raise Refused(
                f'site "{name}" {so}: it is stopped, by {site.stopped_by}; djsup start {name} starts it', 1
            )

    def _filter(self, request: dict[str, Any]) -> tuple[SiteName | None, int]:
        site = None if request.get("site") is None else self._site(request)
        return site, int(min(LIMIT_MAX, max(0.0, self._number(request, "limit", 100))))

    def _canary_s(self, request: dict[str, Any]) -> float | None:
        if request.get("canary_s") is None:
            return None
        seconds = self._number(request, "canary_s", 0.0)
        if seconds != 0 and not CANARY_MIN_S <= seconds <= DAY_S:
            raise Refused(
                f"canary_s is {seconds:g}; it must be 0, or from {CANARY_MIN_S} to {DAY_S} seconds", 2
            )
        return seconds

    @staticmethod
    def _number(request: dict[str, Any], key: str, default: float) -> float:
        number = request.get(key, default)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Refused(f"{key} is {number!r}; it must be a number", 2)
        return float(number)


def _started(site: SiteSnapshot) -> dict[str, Any]:
    report = site.last_reload
    return {
        "name": site.name,
        "generation": site.generation if report is None else report.generation,
        "result": "started",
        "error": None,
        "details": "",
        "duration_s": 0.0,
        "canary": "",
    }


def _arrived(site: SiteSnapshot | None, *, starts: bool) -> bool:
    """Whether a site is what it was told to be, or will not become it."""
    if site is None or (site.stopped_by is None) is not starts:
        return True  # gone, or told something else meanwhile
    if not starts:
        return site.state is SiteState.STOPPED
    return site.state not in {SiteState.STARTING, SiteState.STOPPING, SiteState.STOPPED}


def _came_of_it(name: str, before: SiteSnapshot, now: SiteSnapshot | None, *, starts: bool) -> dict[str, Any]:
    """What became of a site that was told to stop or to start; ``changed`` is False where it was so before."""
    error = None if now is None else now.error
    if now is None:
        error = "the site was removed"
    elif (now.stopped_by is None) is not starts:
        error = f"it was stopped meanwhile, by {now.stopped_by}" if starts else "it was started meanwhile"
    return {
        "name": name,
        "state": SiteState.STOPPED.value if now is None else now.state.value,
        "changed": (before.stopped_by is None) is not starts,
        "error": error,
    }


def _outcome(before: SiteSnapshot, now: SiteSnapshot | None) -> dict[str, Any] | None:
    """How the reload that ``before`` shows as begun has ended; None while it runs."""
    answer = {**_started(before), "result": "done"}
    if now is None:
        return {**answer, "result": "rolled-back", "error": "the site was removed"}
    if before.stopped_by is not None:
        return {**answer, "result": "stopped"}  # nothing was begun: it loads the new code when it is started
    if now.state in (SiteState.STOPPING, SiteState.STOPPED):
        return {**answer, "result": "rolled-back", "error": "the site was stopped"}
    report = now.last_reload
    if now.state is SiteState.SLEEPING and (report is None or report.result is not ReloadResult.RUNNING):
        # Nothing of it is loaded: what it loads when it wakes is the new code.
        return {**answer, "result": "asleep"}
    if before.last_reload is None or report is None:
        # Nothing served, so there is nothing to roll back to: the reload is one more try to start.
        if now.state in (SiteState.STARTING, SiteState.RELOADING):
            return None
        if now.state in (SiteState.SERVING, SiteState.DEGRADED):
            return {**answer, "generation": now.generation}
        return {**answer, "result": "rolled-back", "error": now.error}
    if (
        report.generation != before.last_reload.generation
        or report.started_at != before.last_reload.started_at
    ):
        return {**answer, "result": "superseded"}
    if report.result is ReloadResult.RUNNING:
        return None
    return {
        **answer,
        "result": report.result.value,
        "error": report.error,
        "details": report.details,
        "duration_s": report.duration_s,
        "canary": report.canary,
    }
