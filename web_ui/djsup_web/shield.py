"""What every request must pass and every answer carries, whatever it is about.

In this order: a Host that is ours, a change that our own page or a program asked for, a token or a
session. Everything is closed but the few paths named here. Failures below become JSON, never a
traceback.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from djsup.client import NotRunning, Refused, TimedOut

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from djsup_web.auth import Attempts, Sessions, Token
    from djsup_web.hosts import HostRule

log = logging.getLogger("djsup_web")

LOGIN = "/login"
STATIC = "/static/{name}"
METRICS = "/metrics"
PUBLIC = frozenset({LOGIN, STATIC, "/healthz", "/api/session"})
"""Routes that need neither token nor session."""
CHANGE_HEADER = "X-Djsup"
"""A form cannot send it, and a script of another origin must ask first and is refused."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "djsup",
}


class Refusal(Exception):
    """An answer other than what was asked for, with its text for people."""

    def __init__(self, status: int, text: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class Shield:
    """The three questions, with what is needed to answer them."""

    hosts: HostRule
    token: Token
    sessions: Sessions
    attempts: Attempts
    public: frozenset[str] = PUBLIC

    @property
    def cookie(self) -> str:
        """The session cookie's name. Cookies ignore the port, so two dashboards on one host need two names."""
        return f"djsup_session_{self.hosts.port}"

    def logged_in(self, request: web.Request) -> bool:
        """Whether the request's cookie is a valid session."""
        return self.sessions.valid(request.cookies.get(self.cookie, ""))

    def check_token(self, shown: str) -> None:
        """Let the right token pass.

        Raises:
            Refusal: 401, it is wrong; 429, too many wrong ones came before it.
        """
        wait_s = self.attempts.wait_s()
        if wait_s:
            raise Refusal(
                429,
                "Too many wrong tokens. Try again in a moment.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
        if not self.token.matches(shown):
            self.attempts.failed()
            raise Refusal(401, "That is not the token.", headers={"WWW-Authenticate": "Bearer"})

    def middlewares(self) -> list[Middleware]:
        """The checks, outermost first."""
        return [_failures_as_json, self._host, self._change, self._login]

    @web.middleware
    async def _host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # A second Host header is malformed (RFC 9112, 3.2).
        shown = request.headers.getall(hdrs.HOST, [])
        if len(shown) != 1 or not self.hosts.allows(shown[0]):
            raise Refusal(421, "This dashboard is not served under that host name.")
        return await handler(request)

    @web.middleware
    async def _change(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method in {hdrs.METH_GET, hdrs.METH_HEAD}:
            return await handler(request)
        if request.method != hdrs.METH_POST:
            raise Refusal(
                405, "Only GET, HEAD and POST are understood.", headers={"Allow": "GET, HEAD, POST"}
            )
        if not self._same_site(request):
            raise Refusal(403, "Another site asked for this change.")
        if _route(request) != LOGIN and request.headers.get(CHANGE_HEADER) != "1":
            raise Refusal(403, f'A change needs the header "{CHANGE_HEADER}: 1".')
        return await handler(request)

    def _same_site(self, request: web.Request) -> bool:
        """Whether the browser says that our own page asks; a program that is no browser says nothing.

        Sec-Fetch-Site first, for it cannot be forged from a page, then Origin, for browsers and
        plain-HTTP addresses without it (the algorithm of Go's http.CrossOriginProtection).
        """
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in {"same-origin", "none"}
        origin = request.headers.get(hdrs.ORIGIN)
        return origin is None or urlsplit(origin).netloc.lower() == request.headers[hdrs.HOST].lower()

    @web.middleware
    async def _login(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        route = _route(request)
        if route in self.public or self.logged_in(request):
            return await handler(request)
        scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer":
            self.check_token(shown.strip())
            return await handler(request)
        if route == "/" and request.method != hdrs.METH_POST:
            raise web.HTTPSeeOther("login")
        raise Refusal(401, "Log in, or send the token.", headers={"WWW-Authenticate": "Bearer"})


def failure(status: int, text: str, **more: object) -> web.Response:
    """An error as the API gives it."""
    return web.json_response({"error": text, **more}, status=status)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Signal before any answer is sent: HEADERS, and nothing is kept that does not say otherwise itself."""
    response.headers.update(HEADERS)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


def _route(request: web.Request) -> str:
    """The route that the request was matched to, empty: none. The path as sent can be written in many ways."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""


@web.middleware
async def _failures_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        response = failure(refusal.status, str(refusal))
        response.headers.update(refusal.headers)
        return response
    except NotRunning as gone:
        return failure(503, str(gone))
    except TimedOut as slow:
        return failure(504, str(slow))
    except Refused as refused:
        # 2 is the exit status of a mistake in what was asked or configured (interface.md's table).
        return failure(422 if refused.exit == 2 else 409, str(refused), problems=list(refused.problems))  # noqa: PLR2004
    except web.HTTPException as other:
        if other.status < 400:  # noqa: PLR2004 - a redirect
            raise
        response = failure(other.status, other.reason)
        if allow := other.headers.get(hdrs.ALLOW):
            response.headers[hdrs.ALLOW] = allow
        return response
    except Exception:
        if request.transport is None:
            raise  # the page went away in the middle; aiohttp knows
        log.exception("%s %s failed", request.method, request.path)
        return failure(500, "The dashboard made a mistake; its log says more.")
