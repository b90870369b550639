"""The API under /api/ and /healthz: what the control socket offers, as HTTP and JSON.

Who may call is settled before (``shield``); what is said to the daemon is ``upstream``'s affair.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from djsup.client import ClientError
from djsup.core.snapshot import SiteState
from djsup_web import metrics, openapi, past, streams
from djsup_web.auth import Right
from djsup_web.past import Past
from djsup_web.shield import Refusal

if TYPE_CHECKING:
    from djsup_web.live import Live
    from djsup_web.shield import Shield
    from djsup_web.upstream import Upstream

SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LIMIT_DEFAULT, LIMIT_MOST = 200, 1000
WORKERS_MOST = 128
CANARY_MOST_S = 86_400
SECONDS_MOST = 120
"""The longest profile."""
RELATIVE = re.compile(r"[+-][0-9]{1,3}")
SERVES = frozenset(
    state.value for state in (SiteState.SERVING, SiteState.DEGRADED, SiteState.RELOADING, SiteState.SLEEPING)
)
"""States in which a request to the site is answered."""


class Api:
    """The handlers and what they need."""

    def __init__(self, upstream: Upstream, live: Live, shield: Shield) -> None:
        self._upstream = upstream
        self._live = live
        self._shield = shield
        self._past = Past(upstream, self._named)

    def routes(self) -> list[web.RouteDef]:
        """Every path below /api/, and /healthz."""
        return [
            web.get("/healthz", self.health),
            web.get("/metrics", self.metrics),
            web.get("/api/openapi.json", self.description),
            web.get("/api/session", self.session),
            web.get("/api/status", self.status),
            web.get("/api/daemon", self.daemon),
            web.get("/api/events", self.events),
            web.get("/api/history", self.history),
            web.get("/api/sites/{name}/logs", self.logs),
            web.get("/api/sites/{name}/stacks", self.stacks),
            web.get("/api/plan", self.plan),
            web.post("/api/reload", self.reload_all),
            web.post("/api/sites/{name}/reload", self.reload),
            web.post("/api/sites/{name}/rollback", self.rollback),
            web.post("/api/sites/{name}/restart", self.restart),
            web.post("/api/sites/{name}/stop", self.stop),
            web.post("/api/sites/{name}/start", self.start),
            web.post("/api/sites/{name}/scale", self.scale),
            web.post("/api/sites/{name}/profile", self.profile),
            *self._past.routes(),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        """200 while every site serves, else 503 with the names of those that do not.

        One that an operator has stopped is no reason to take this machine out of a load balancer.
        """
        try:
            picture = await self._picture()
        except ClientError as error:
            return web.json_response({"status": "unknown", "error": str(error)}, status=503)
        down = [
            site["name"]
            for site in picture["sites"]
            if site["state"] not in SERVES and site["stopped_by"] is None
        ]
        if down:
            return web.json_response({"status": "failing", "sites": down}, status=503)
        return web.json_response({"status": "ok", "sites": []})

    async def metrics(self, request: web.Request) -> web.Response:
        """The figures for Prometheus, in the format that is asked for."""
        body, content_type = metrics.expose(
            await self._upstream.metrics(), request.headers.get(hdrs.ACCEPT, "")
        )
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    async def description(self, _request: web.Request) -> web.Response:
        """This API, for programs."""
        return web.json_response(openapi.DOCUMENT)

    async def session(self, request: web.Request) -> web.Response:
        """Whether the cookie is a session, and of whom: lets a page find out without an error in its console."""
        right = self._shield.session(request)
        return web.json_response({"logged_in": right is not None, "may_change": right is Right.CHANGE})

    async def status(self, _request: web.Request) -> web.Response:
        """The picture of the fleet, as ``djsup status --json``."""
        return web.json_response(await self._picture())

    async def daemon(self, _request: web.Request) -> web.Response:
        """The daemon's versions, listeners and configuration, secrets hidden."""
        return web.json_response(await self._upstream.ask("daemon"))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Pictures and events as they come."""
        return await streams.serve(request, self._live.page(), self._shield.welcome(request))

    async def history(self, request: web.Request) -> web.Response:
        """The last events, oldest first; with ``before``, ``from`` or ``to`` a page of earlier ones."""
        site = _site(request.query["site"]) if "site" in request.query else None
        limit, asked = _limit(request), past.page(request.query)
        if site is not None:
            await self._known(site)
        return web.json_response({"events": await self._upstream.history(site, limit, **asked)})

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """The last lines of a site's log; with ``follow=1`` as a stream that goes on."""
        site = _site(request.match_info["name"])
        if request.query.get("follow") == "1":
            await self._known(site)
            return await streams.serve(request, self._live.log(site), self._shield.welcome(request))
        limit = _limit(request)
        await self._known(site)
        return web.json_response({"lines": await self._upstream.log_lines(site, limit)})

    async def stacks(self, request: web.Request) -> web.Response:
        """Where every thread of a site is, now."""
        site = _site(request.match_info["name"])
        await self._known(site)
        return web.json_response(await self._upstream.trace(site))

    async def reload(self, request: web.Request) -> web.Response:
        """Load a site's code anew; answers when it is done or rolled back."""
        site = _site(request.match_info["name"])
        canary_s = _canary_s(await _body(request)) if request.can_read_body else None
        await self._known(site)
        return web.json_response(await self._upstream.reload([site], self._live.tell_progress, canary_s))

    async def plan(self, _request: web.Request) -> web.Response:
        """What a reload of everything would change, and what that costs; changes nothing."""
        return web.json_response(await self._upstream.plan())

    async def reload_all(self, _request: web.Request) -> web.Response:
        """Read the configuration again and load every site's code anew."""
        return web.json_response(await self._upstream.reload([], self._live.tell_progress))

    async def rollback(self, request: web.Request) -> web.Response:
        """Bring the code back that served before; answers when it is done or given up."""
        site = _site(request.match_info["name"])
        await self._known(site)
        return web.json_response(await self._upstream.rollback(site, self._live.tell_progress))

    async def restart(self, request: web.Request) -> web.Response:
        """Stop and start a site."""
        site = _site(request.match_info["name"])
        await self._known(site)
        return web.json_response(await self._upstream.restart(site, self._live.tell_progress))

    async def stop(self, request: web.Request) -> web.Response:
        """Stop a site until somebody starts it; answers when it has ended."""
        site = _site(request.match_info["name"])
        now = _truth(await _body(request), "now") if request.can_read_body else False
        await self._known(site)
        return web.json_response(await self._upstream.stop(site, self._live.tell_progress, now=now))

    async def start(self, request: web.Request) -> web.Response:
        """Start a site that was stopped; answers when it serves or has failed."""
        site = _site(request.match_info["name"])
        await self._known(site)
        return web.json_response(await self._upstream.start(site, self._live.tell_progress))

    async def scale(self, request: web.Request) -> web.Response:
        """Set the number of a site's workers."""
        site = _site(request.match_info["name"])
        workers = _workers(await _body(request))
        await self._known(site)
        return web.json_response(await self._upstream.scale(site, workers))

    async def profile(self, request: web.Request) -> web.Response:
        """Look for a while where a site's threads spend their time; answers when that is over."""
        site = _site(request.match_info["name"])
        seconds = _seconds(await _body(request))
        await self._known(site)
        return web.json_response(await self._upstream.profile(site, seconds, self._live.tell_progress))

    async def _picture(self) -> dict[str, Any]:
        latest: dict[str, Any] | None = self._live.latest()
        return latest if latest is not None else await self._upstream.status()

    async def _known(self, name: str) -> None:
        picture = await self._picture()
        if all(site["name"] != name for site in picture["sites"]):
            raise Refusal(404, f'There is no site "{name}".')

    async def _named(self, request: web.Request) -> str:
        """The site that a request's path names."""
        site = _site(request.match_info["name"])
        await self._known(site)
        return site


def _site(name: str) -> str:
    if not SITE_NAME.fullmatch(name):
        raise Refusal(404, "That is no site's name.")
    return name


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(LIMIT_DEFAULT))
    if not (
        text.isascii()
        and text.isdigit()
        and len(text) <= len(str(LIMIT_MOST))
        and 1 <= int(text) <= LIMIT_MOST
    ):
        raise Refusal(400, f'"limit" is a number from 1 to {LIMIT_MOST}.')
    return int(text)


async def _body(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise Refusal(415, "The body has to be JSON (Content-Type: application/json).")
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Refusal(400, "The body has to be a JSON object.")
    return body


def _canary_s(body: dict[str, Any]) -> float | None:
    """For how long new code is to be tried; None: as the settings say."""
    match body.get("canary_s"):
        case None:
            return None
        case (int() | float()) as seconds if not isinstance(seconds, bool) and 0 <= seconds <= CANARY_MOST_S:
            return float(seconds)
        case _:
            raise Refusal(400, f'"canary_s" is a number of seconds from 0 to {CANARY_MOST_S}.')


def _truth(body: dict[str, Any], key: str) -> bool:
    found = body.get(key, False)
    if not isinstance(found, bool):
        raise Refusal(400, f'"{key}" is true or false.')
    return found


def _workers(body: dict[str, Any]) -> int | str:
    match body.get("workers"):
        case int(number) if not isinstance(body["workers"], bool) and 1 <= number <= WORKERS_MOST:
            return number
        case str(text) if RELATIVE.fullmatch(text):
            return text
        case _:
            raise Refusal(
                400, f'"workers" is a number from 1 to {WORKERS_MOST}, or a change as "+1" or "-1".'
            )


def _seconds(body: dict[str, Any]) -> float:
    match body.get("seconds"):
        case int() | float() as number if not isinstance(number, bool) and 1 <= number <= SECONDS_MOST:
            return float(number)
        case _:
            raise Refusal(400, f'"seconds" is a number from 1 to {SECONDS_MOST}.')
