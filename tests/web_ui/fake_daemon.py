"""A daemon that is none: it speaks the control socket's protocol and plays a lively fleet.

For the tests of the dashboard, which need every state of a site on demand, and for looking at the
dashboard by hand: ``python -m web_ui.fake_daemon SOCKET [NUMBER OF SITES]``. Its pictures are made of
the same frozen values as the real daemon's, so their shape cannot drift.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from djsup import tracer
from djsup.core import difference
from djsup.core.model import Address, AddressKind, Settings, SiteName, SiteSettings
from djsup.core.snapshot import (
    CurrentRequest,
    DaemonSnapshot,
    Latency,
    ProgramSnapshot,
    QueueSnapshot,
    ReloadReport,
    ReloadResult,
    SiteSnapshot,
    SiteState,
    Snapshot,
    TemplateSnapshot,
    WorkerSnapshot,
    WorkerState,
    from_json,
    to_json,
)
from djsup.disclosure import disclose
from djsup.figures import figures
from djsup.profile import Profile
from djsup.shell.control import Refused
from djsup.shell.history import History
from djsup.shell.samples import Measured, Totals
from djsup.shell.sockets import Listeners
from djsup.stacks import Frame, Request, Stack, Thread, together
from djsup_worker import scoreboard
from web_ui.fake_past import FakePast

MIB = 1024 * 1024
ORDERS = {"reload", "rollback", "restart", "scale", "stop_sites", "start_sites"}
BRIEF_FROM = 10
WAIT_S = 30
"""For what takes a moment, on a machine that has much else to do."""
TURNS = 5
"""Of the loop, until a connection that was just accepted has begun to be served, and one that is closed has gone."""
PROGRAMS = {
    "blog": (
        ProgramSnapshot("celery", 0, 4900, "running", 3700.0, status_text="12 tasks"),
        ProgramSnapshot("beat", 0, None, "backing-off", 0.0, next_try_s=4.0),
        ProgramSnapshot(
            "clearsessions", 0, None, "waiting", 0.0, schedule="0 3 * * *", next_run_at=1_790_000_000.0,
            runs=2, last_well=False, last_result="exited with status 1 after 0.4 s",
        ),
    )
}  # fmt: skip
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/shop/wsgi.py", line 14, in <module>
    application = get_wsgi_application()
  File "/srv/shop/.venv/lib/python3.12/site-packages/django/core/wsgi.py", line 12, in get_wsgi_application
    django.setup(set_prefix=False)
  File "/srv/shop/.venv/lib/python3.12/site-packages/django/__init__.py", line 24, in setup
    apps.populate(settings.INSTALLED_APPS)
  File "/srv/shop/orders/models.py", line 8, in <module>
    from payments.gateway import <Gateway>
                                 ^
SyntaxError: invalid syntax
"""
DJANGO = "/srv/shop/.venv/lib/python3.12/site-packages/django"
WAITS_FOR_DATABASE = (
    Frame("/srv/shop/.venv/lib/python3.12/site-packages/psycopg/connection.py", 453, "wait"),
    Frame(f"{DJANGO}/db/backends/utils.py", 105, "_execute"),
    Frame(f"{DJANGO}/db/models/query.py", 400, "__iter__"),
    Frame("/srv/shop/orders/views.py", 31, "<report>"),
    *(Frame(f"{DJANGO}/core/handlers/exception.py", 55, "inner") for _ in range(9)),
)
NAMES = [
    "blog",
    "shop",
    "intranet",
    "wiki",
    "tickets",
    "billing",
    "crm",
    "press",
    "jobs",
    "docs",
    "forum",
    "photos",
    "maps",
    "search",
    "mail-archive",
    "newsletter",
    "surveys",
    "wedding",
    "club",
    "library",
    "school",
    "clinic",
    "festival",
    "museum",
    "bakery",
    "garage",
    "radio",
    "weather",
    "lab",
    "status",
]
PATHS = (
    "/",
    "/orders/1042/",
    "/api/v1/items?page=3",
    "/admin/blog/post/17/change/",
    "/search?q=caf%C3%A9",
    "/feed.xml",
)


@dataclass
class FakeWorker:
    slot: int
    pid: int
    generation: int
    state: WorkerState = WorkerState.IDLE
    started_at: float = field(default_factory=time.time)
    requests: int = 0
    current: tuple[CurrentRequest, ...] = ()


@dataclass
class FakeSite:
    """One site, with what a test may want to turn."""

    name: str
    listen: str
    load: float = 60.0
    """Requests a second."""
    state: SiteState = SiteState.SERVING
    generation: int = 1
    asked: int = 2
    error: str | None = None
    stopped_by: str | None = None
    notes: tuple[str, ...] = ()
    shared: bool = False
    """Whether its requests come through the router."""
    queue: QueueSnapshot = field(default_factory=QueueSnapshot)
    last_reload: ReloadReport | None = None
    workers: list[FakeWorker] = field(default_factory=list)
    status: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    reload_s: float = 0.3
    """How long a reload takes."""
    broken: bool = False
    """Whether the code on disk cannot be imported."""
    loads: int = 0
    """The number of the last generation that was tried."""
    phase: float = 0.0
    requests_per_s: float = 0.0


class FakeDaemon:
    """Listens on a Unix socket. ``calls`` has every request, in order."""

    def __init__(self, socket_path: Path, sites: int = 2, *, lively: bool = True, seed: int = 7) -> None:
        self.path = socket_path
        self.lively = lively
        self.random = random.Random(seed)
        self.calls: list[dict[str, Any]] = []
        self.watching = 0
        self.refusal: dict[str, Any] | None = None
        """The answer to every order, when set."""
        self.mute = False
        """Accepts, and says nothing."""
        self.started_at = time.time() - 273_840
        self.events: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.interval_s = 1.0
        self.edited: Callable[[Settings], Settings] = lambda running: running
        """The configuration on disk, made of the one that runs."""
        self.tokens: dict[str, list[str]] = {"full": [], "read": []}
        """The hashes of the valid tokens; without any, nobody is told."""
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Future[None]] = set()
        self._pids = 41_200
        self._history = History()
        self.sites = {name: self._site(name, number) for number, name in enumerate(self._names(sites))}
        self.past = FakePast(
            lambda: tuple(self._snapshot(site, time.time()) for site in self.sites.values()),
            lambda name: self.sites[name].load,
            brief=sites > BRIEF_FROM,
        )
        self._history.keep = self.past.deploys.see
        self.past.history = self._history
        if "blog" in self.sites:
            error = 'cannot import "blog.wsgi": SyntaxError: invalid syntax (models.py, line 8)'
            self.past.deployed("blog", 21_000.0, "done", 0.91, None, "")
            self.past.deployed("blog", 8_900.0, "rolled-back", 2.4, error, TRACEBACK)
            self.past.deployed("blog", 8_040.0, "done", 1.24, None, "")

    # --- what tests turn -------------------------------------------------------------------------

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._let_in, str(self.path))

    async def stop(self) -> None:
        """Gone: the socket is removed and every connection closed."""
        assert self._server is not None
        self.path.unlink(missing_ok=True)
        # Who knocks already comes in: asyncio would forget it without closing it (CPython's gh-109564).
        await turns()
        self._server.close()
        await self.hang_up()

    async def hang_up(self) -> None:
        """Every connection is closed."""
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()  # not only when its last words were read
        for writer in writers:
            with suppress(OSError):
                await writer.wait_closed()

    def happen(
        self, kind: str, site: str | None, text: str, level: str = "info", details: str = "", by: str = ""
    ) -> None:
        """Add an event."""
        known = self.sites.get(site or "")
        self.events.append(
            {
                "id": len(self.events) + 1,
                "at": _now(),
                "kind": kind,
                "level": level,
                "site": site,
                "generation": known.generation if known else None,
                "pid": None,
                "text": text,
                "details": details,
                "by": by,
            }
        )
        generation = None if known is None else known.loads or known.generation
        self._history.add(kind, text, site=site, generation=generation, level=level, details=details, by=by)
        self._wake()

    def say(self, site: str, text: str, stream: str = "stdout", slot: int | None = 0) -> None:
        """Add a line to a site's log."""
        pid = self.sites[site].workers[0].pid if self.sites[site].workers else None
        self.log.append(
            {
                "at": _now(),
                "site": site,
                "slot": slot,
                "program": None,
                "pid": pid,
                "stream": stream,
                "text": text,
            }
        )
        self._wake()

    def change(self) -> None:
        """Have watchers look now."""
        self._wake()

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        with suppress(RuntimeError):  # made before any loop runs: nobody waits yet
            asyncio.get_running_loop().create_task(notify())

    # --- the fleet -------------------------------------------------------------------------------

    @staticmethod
    def _names(number: int) -> list[str]:
        return [NAMES[n] if n < len(NAMES) else f"site-{n + 1}" for n in range(number)]

    def _site(self, name: str, number: int) -> FakeSite:
        site = FakeSite(
            name,
            f"127.0.0.1:{8001 + number}",
            load=abs(self.random.gauss(0, 90)) + 4,
            phase=self.random.random() * 6,
            asked=2 if number < 2 else self.random.randint(1, 6),
            generation=3 if number == 0 else 1,
        )
        site.workers = [self._worker(site, slot) for slot in range(site.asked)]
        for worker in site.workers:
            worker.started_at -= self.random.random() * 90_000
            worker.requests = self.random.randrange(200_000)
        if number == 0:
            site.last_reload = ReloadReport(3, ReloadResult.DONE, time.time() - 8_040, 1.24, "root (cli)")
        return site

    def _worker(self, site: FakeSite, slot: int) -> FakeWorker:
        self._pids += self.random.randint(1, 9)
        return FakeWorker(slot, self._pids, site.generation)

    def _tick(self, site: FakeSite) -> None:
        serving = [each for each in site.workers if each.state in {WorkerState.IDLE, WorkerState.BUSY}]
        if not self.lively or not serving:
            site.requests_per_s = 0.0
            return
        wave = 1 + 0.35 * math.sin(time.time() / 9 + site.phase)
        site.requests_per_s = max(0.0, site.load * wave + self.random.gauss(0, site.load * 0.08))
        count = int(site.requests_per_s)
        for worker in serving:
            worker.requests += count // len(serving)
            busy = self.random.random() < min(0.8, site.load / 150)
            worker.state = WorkerState.BUSY if busy else WorkerState.IDLE
            age_s = self.random.expovariate(3)
            worker.current = (CurrentRequest("GET", self.random.choice(PATHS), age_s),) if busy else ()
        site.status[0] += count
        site.status[1] += count // 30
        site.status[2] += count // 50
        site.status[3] += 1 if self.random.random() < 0.02 else 0

    def picture(self) -> dict[str, Any]:
        """The status object, a moment later than the last one."""
        for site in self.sites.values():
            self._tick(site)
        now = time.time()
        daemon = DaemonSnapshot(
            pid=4711,
            version="0.1.0",
            started_at=self.started_at,
            uptime_s=now - self.started_at,
            config="/etc/djsup/djsup.toml",
            dashboard="http://127.0.0.1:9000/",
        )
        return to_json(Snapshot(daemon, tuple(self._snapshot(site, now) for site in self.sites.values())))

    def disclosed(self) -> dict[str, Any]:
        """The daemon and its configuration, by the real daemon's code."""
        picture = Snapshot(from_json(self.picture()).daemon, ())
        return disclose(picture, self.settings(), Listeners(), self, Path("/run/djsup"))

    def planned(self) -> dict[str, Any]:
        """What a reload would change, by the real daemon's code: whatever ``edited`` makes of the settings."""
        running = self.settings()
        return difference.to_json(difference.between(running, self.edited(running), None))

    def settings(self) -> Settings:
        """The configuration that runs."""
        sites = tuple(
            SiteSettings(
                SiteName(site.name),
                f"/srv/{site.name}",
                "/usr/bin/python3",
                (Address(AddressKind.TCP, "127.0.0.1", int(site.listen.rpartition(":")[2])),),
                env=(("DATABASE_URL", "postgres://blog:hunter2@localhost/blog"), ("SECRET_KEY", "hunter2")),
            )
            for site in self.sites.values()
        )
        return Settings("/etc/djsup/djsup.toml", "/run/djsup", sites)

    def metrics(self) -> dict[str, Any]:
        """The figures for monitoring, made by the real daemon's code of what this one plays."""
        return figures(from_json(self.picture()), self, self._history)

    def totals(self, site: str) -> tuple[Totals, float]:
        """What the real daemon's observer has counted."""
        classes = (0, *self.sites[site].status)
        histogram = [0] * scoreboard.HISTOGRAM_BUCKETS
        for age_s, share in ((0.004, 2), (0.03, 3), (0.4, 12)):
            histogram[scoreboard.bucket_of(age_s)] = sum(classes) // share
        return Totals(sum(histogram), classes, tuple(histogram), 1_000, 2_000_000, 300), 12.5

    def measure(self, _pid: int) -> Measured:
        """What the kernel says of the real daemon."""
        return Measured(pss_bytes=40 * MIB, cpu_s=3.25)

    def trace(self, site: FakeSite) -> dict[str, Any]:
        """Where the threads are: those that run a request wait for the database, all others are idle."""
        found = []
        for worker in site.workers:
            monitor = Frame("/run/djsup/worker/djsup_worker/crew.py", 225, "_watch")
            found.append((Thread(worker.slot, worker.pid, 2), Stack(2, False, (monitor,))))
            polls = Frame("/run/djsup/worker/djsup_worker/loop.py", 210, "poll")
            if not worker.current:
                found.append((Thread(worker.slot, worker.pid, 1), Stack(1, True, (polls,))))
            for number, each in enumerate(worker.current):
                request = Request(each.method, each.path, each.age_s)
                frames = (*WAITS_FOR_DATABASE, polls)
                found.append(
                    (Thread(worker.slot, worker.pid, 10 + number, request), Stack(10 + number, False, frames))
                )
        return {
            "site": site.name,
            "threads": len(found),
            "processes": [
                {
                    "slot": each.slot,
                    "pid": each.pid,
                    "generation": each.generation,
                    "threads": 2,
                    "asked_by": "message",
                    "error": None,
                }
                for each in site.workers
            ],
            "places": [tracer.to_json(place) for place in together(found)],
        }

    def profile(self, site: FakeSite, seconds: float) -> dict[str, Any]:
        """Where the time went: most of it into one query."""
        profile = Profile()
        handle = Frame(f"{DJANGO}/core/handlers/base.py", 140, "BaseHandler.get_response")
        report = Frame("/srv/shop/orders/views.py", 31, "<report>")
        for count, calls in (
            (310, (handle, report, *WAITS_FOR_DATABASE[2::-1])),
            (120, (handle, report, Frame("/srv/shop/orders/prices.py", 8, "round_up"))),
            (44, (handle, Frame(f"{DJANGO}/template/base.py", 900, "Node.render_annotated"))),
            (26, (handle,)),
        ):
            profile.stacks[calls] = count
        profile.rounds = profile.idle[()] = 1000
        processes = [
            {"slot": each.slot, "pid": each.pid, "rounds": 500, "error": None} for each in site.workers
        ]
        return {
            "site": site.name,
            "seconds": seconds,
            "rate": 50.0,
            "native": False,
            "processes": processes,
            **profile.to_json(),
        }

    def _snapshot(self, site: FakeSite, now: float) -> SiteSnapshot:
        p50 = 4 + 3 * math.sin(now / 20 + site.phase) + site.load / 40
        busy = any(worker.requests for worker in site.workers) and self.lively
        return SiteSnapshot(
            name=site.name,
            state=site.state,
            generation=site.generation,
            listen=(site.listen,),
            hosts=(f"{site.name}.example.com",),
            shared=(site.listen,) if site.shared else (),
            queue=site.queue,
            error=site.error,
            stopped_by=site.stopped_by,
            notes=site.notes,
            workers_asked=0 if site.stopped_by else site.asked,
            python="3.12.1",
            django="5.1.4",
            requests=sum(site.status),
            requests_per_s=round(site.requests_per_s, 1),
            latency_ms=Latency(round(p50, 2), round(p50 * 3.1, 2), round(p50 * 9.7, 1))
            if busy
            else Latency(),
            status=(site.status[0], site.status[1], site.status[2], site.status[3]),
            memory_bytes=int((38 + 11.5 * len(site.workers)) * MIB),
            cpu_percent=round(site.requests_per_s * 0.11, 1),
            last_reload=site.last_reload,
            workers=tuple(
                WorkerSnapshot(
                    slot=each.slot,
                    pid=each.pid,
                    generation=each.generation,
                    state=each.state,
                    started_at=each.started_at,
                    uptime_s=now - each.started_at,
                    requests=each.requests,
                    threads=4,
                    busy=len(each.current),
                    connections=len(each.current) * 3 + each.slot,
                    rss_bytes=52 * MIB,
                    pss_bytes=int(11.5 * MIB) + each.slot * 231_000,
                    cpu_percent=round(site.requests_per_s * 0.11 / max(1, len(site.workers)), 1),
                    current=each.current,
                )
                for each in site.workers
            ),
            templates=(TemplateSnapshot(4800, site.generation, "loaded", 31 * MIB),),
            programs=PROGRAMS.get(site.name, ()),
        )

    # --- the protocol ----------------------------------------------------------------------------

    def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)  # not by the task: one that is cancelled before it has begun does nothing
        serving = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            self.calls.append(request)
            answer = asyncio.ensure_future(self._answer(request, writer))
            hung_up = asyncio.ensure_future(reader.read(1))
            await asyncio.wait((answer, hung_up), return_when=asyncio.FIRST_COMPLETED)
            for task in (answer, hung_up):
                task.cancel()
            await asyncio.gather(answer, hung_up, return_exceptions=True)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._writers.discard(writer)

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        async def send(line: dict[str, Any]) -> None:
            writer.write(json.dumps(line).encode() + b"\n")
            await writer.drain()

        if self.mute:
            await asyncio.sleep(3600)
        if self.refusal is not None and request["verb"] in ORDERS:
            await send(self.refusal)
            return
        name = request.get("site")
        names = request.get("sites") or ([name] if name else list(self.sites))
        if any(each not in self.sites for each in names):
            await send(
                {"ok": False, "error": f"no site {names[0]!r}; there are: {', '.join(self.sites)}", "exit": 2}
            )
            return
        if self.past.has(request):
            try:
                async for line in self.past.answer(request):
                    await send(line)
            except Refused as refused:
                await send({"ok": False, "error": str(refused), "exit": refused.status})
            return
        match request["verb"]:
            case "ping":
                await send({"ok": True, "result": {"pid": 4711, "version": "0.1.0"}})
            case "status":
                await send({"ok": True, "result": self.picture()})
            case "watch":
                self.watching += 1
                try:
                    while True:
                        await send({"snapshot": self.picture()})
                        with suppress(TimeoutError):
                            async with asyncio.timeout(self.interval_s), self._changed:
                                await self._changed.wait()
                finally:
                    self.watching -= 1
            case "reload":
                results = await asyncio.gather(*(self._reload(self.sites[each], send) for each in names))
                await send({"ok": True, "result": {"sites": results}})
            case "rollback":
                self.sites[names[0]].broken = False
                results = [await self._reload(self.sites[names[0]], send)]
                await send({"ok": True, "result": {"sites": results}})
            case "restart":
                await self._restart(self.sites[names[0]])
                await send(
                    {"ok": True, "result": {"site": names[0], "state": self.sites[names[0]].state.value}}
                )
            case "stop_sites" | "start_sites" as verb:
                starts = verb == "start_sites"
                sites = [
                    await (self._start if starts else self._stop)(self.sites[each], send) for each in names
                ]
                await send({"ok": True, "result": {"sites": sites}})
            case "scale":
                self._scale(self.sites[names[0]], request["workers"])
                await send({"ok": True, "result": {"site": names[0], "workers": self.sites[names[0]].asked}})
            case "tokens":
                while True:
                    if self.tokens["full"]:
                        await send({"tokens": self.tokens})
                    async with self._changed:
                        await self._changed.wait()
            case "plan":
                await send({"ok": True, "result": self.planned()})
            case "daemon":
                await send({"ok": True, "result": self.disclosed()})
            case "metrics":
                await send({"ok": True, "result": self.metrics()})
            case "profile":
                await asyncio.sleep(self.sites[names[0]].reload_s)
                await send({"ok": True, "result": self.profile(self.sites[names[0]], request["seconds"])})
            case "trace":
                await send({"ok": True, "result": self.trace(self.sites[names[0]])})
            case "events" | "logs" as verb:
                await self._tell(request, "event" if verb == "events" else "log", send)
            case verb:
                await send({"ok": False, "error": f"no verb {verb!r}", "exit": 2})

    async def _tell(self, request: dict[str, Any], kind: str, send: Any) -> None:
        kept = self.events if kind == "event" else self.log
        sent = max(0, len(kept) - request["limit"])
        while True:
            while sent < len(kept):
                entry = kept[sent]
                sent += 1
                if request.get("site") in {None, entry["site"]}:
                    await send({kind: entry})
            if not request["follow"]:
                await send({"ok": True, "result": {}})
                return
            async with self._changed:
                await self._changed.wait()

    async def _reload(self, site: FakeSite, send: Any) -> dict[str, Any]:
        by, begun = "root (dashboard)", time.time()
        new = site.loads = max(site.generation, site.loads) + 1
        site.state = SiteState.RELOADING
        site.last_reload = ReloadReport(new, ReloadResult.RUNNING, begun, 0.0, by)
        self.happen(
            "reload-started", site.name, f'site "{site.name}": generation {new} is being loaded', by=by
        )
        await send(
            {"progress": {"site": site.name, "text": f'site "{site.name}": generation {new} is being loaded'}}
        )
        await asyncio.sleep(site.reload_s)
        took_s = time.time() - begun
        site.state = SiteState.SERVING
        if site.broken:
            error = 'cannot import "shop.wsgi": SyntaxError: invalid syntax (models.py, line 8)'
            site.last_reload = ReloadReport(
                new, ReloadResult.ROLLED_BACK, begun, took_s, by, error, TRACEBACK
            )
            text = f'site "{site.name}": generation {new} rolled back: {error}'
            self.happen("reload-rolled-back", site.name, text, "error", TRACEBACK, by)
            return {
                "name": site.name,
                "generation": new,
                "result": "rolled-back",
                "error": error,
                "details": TRACEBACK,
                "duration_s": took_s,
            }
        site.generation = new
        site.workers = [self._worker(site, each.slot) for each in site.workers]
        site.last_reload = ReloadReport(new, ReloadResult.DONE, begun, took_s, by)
        self.happen("reload-done", site.name, f'site "{site.name}": generation {new} serves', by=by)
        return {
            "name": site.name,
            "generation": new,
            "result": "done",
            "error": None,
            "details": "",
            "duration_s": took_s,
        }

    async def _restart(self, site: FakeSite) -> None:
        site.state, site.workers = SiteState.STOPPING, []
        self.happen("restart-asked", site.name, f'site "{site.name}" restarts', by="root (dashboard)")
        await asyncio.sleep(site.reload_s)
        site.generation += 1
        site.workers = [self._worker(site, slot) for slot in range(site.asked)]
        site.state = SiteState.SERVING
        self.happen("site-serving", site.name, f'site "{site.name}" serves with generation {site.generation}')

    async def _stop(self, site: FakeSite, send: Any) -> dict[str, Any]:
        changed, by = site.stopped_by is None, "root (dashboard)"
        if changed:
            site.stopped_by, site.state = by, SiteState.STOPPING
            self.happen("stop-asked", site.name, f'site "{site.name}": stops', by=by)
            await send({"progress": {"site": site.name, "text": f'site "{site.name}": stops'}})
            await asyncio.sleep(site.reload_s)
            site.state, site.workers, site.error = SiteState.STOPPED, [], None
            self.happen("site-stopped", site.name, f'site "{site.name}": has stopped')
        return {"name": site.name, "state": site.state.value, "changed": changed, "error": None}

    async def _start(self, site: FakeSite, send: Any) -> dict[str, Any]:
        changed = site.stopped_by is not None
        if changed:
            site.stopped_by, site.state = None, SiteState.STARTING
            text = f'site "{site.name}": starts'
            self.happen("start-asked", site.name, text, by="root (dashboard)")
            await send({"progress": {"site": site.name, "text": text}})
            await asyncio.sleep(site.reload_s)
            site.generation += 1
            site.workers = [self._worker(site, slot) for slot in range(site.asked)]
            site.state = SiteState.SERVING
            self.happen("site-serving", site.name, f'site "{site.name}": serves')
        return {"name": site.name, "state": site.state.value, "changed": changed, "error": site.error}

    def _scale(self, site: FakeSite, workers: int | str) -> None:
        site.asked = max(1, site.asked + int(workers)) if isinstance(workers, str) else workers
        while len(site.workers) < site.asked:
            site.workers.append(self._worker(site, len(site.workers)))
        del site.workers[site.asked :]
        self.happen("scaled", site.name, f'site "{site.name}": {site.asked} workers', by="root (dashboard)")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeDaemonThread:
    """A fake daemon with a loop of its own, for tests that are not asynchronous themselves."""

    def __init__(self, daemon: FakeDaemon, loop: asyncio.AbstractEventLoop) -> None:
        self.daemon = daemon
        self._loop = loop

    def do(self, change: Any) -> None:
        """Run a function in the daemon's loop and wait for it; then watchers look."""

        async def call() -> None:
            result = change(self.daemon)
            if asyncio.iscoroutine(result):
                await result
            self.daemon.change()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout=WAIT_S)


async def turns() -> None:
    """Let everything get on that waits for nothing but its turn."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


@contextmanager
def fake_daemon_thread(
    socket_path: Path, sites: int = 2, *, lively: bool = True
) -> Iterator[FakeDaemonThread]:
    """A fake daemon that runs beside the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake daemon")
    thread.start()

    async def make() -> FakeDaemon:
        daemon = FakeDaemon(socket_path, sites, lively=lively)
        await daemon.start()
        return daemon

    async def end() -> None:
        await daemon.stop()
        await turns()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await turns()
        await daemon.hang_up()  # who was let in meanwhile, too
        await turns()

    daemon = asyncio.run_coroutine_threadsafe(make(), loop).result(timeout=WAIT_S)
    try:
        yield FakeDaemonThread(daemon, loop)
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(timeout=WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=WAIT_S)
        loop.close()


async def _main(path: Path, sites: int) -> None:
    daemon = FakeDaemon(path, sites)
    await daemon.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2))
