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
from djsup_web import proxies
from djsup_web.auth import Right

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler, Middleware

    from djsup_web.auth import Attempts, Sessions, Tokens
    from djsup_web.hosts import HostRule
    from djsup_web.proxies import Proxies

log = logging.getLogger("djsup_web")

LOGIN, LOGOUT = "/login", "/logout"
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
    tokens: Tokens
    sessions: Sessions
    attempts: Attempts
    public: frozenset[str] = PUBLIC
    proxies: Proxies = proxies.NONE
    prefix: str = ""
    """The path below which a proxy shows the dashboard; begins with a slash and ends with none."""

    @property
    def cookie(self) -> str:
        """The session cookie's name. Cookies ignore the port, so two dashboards on one host need two names."""
        return f"djsup_session_{self.hosts.port}"

    @property
    def cookie_path(self) -> str:
        """The paths that the cookie is sent to: no other application of the same host gets it."""
        return f"{self.prefix}/"

    def session(self, request: web.Request) -> Right | None:
        """What the request's cookie gives; None: it is no valid session."""
        return self.sessions.right(request.cookies.get(self.cookie, ""))

    def welcome(self, request: web.Request) -> Callable[[], bool]:
        """Whether who has asked is let in still: a stream ends with its session or its token."""
        if self.session(request) is not None:
            return lambda: self.session(request) is not None
        token = self.tokens.find(_bearer(request) or "")
        return lambda: token is not None and self.tokens.right(token) is not None

    def check_token(self, request: web.Request, shown: str) -> bytes:
        """Let a token pass; gives its hash.

        Raises:
            Refusal: 401, it is wrong; 429, too many wrong ones came before it.
        """
        address = self.proxies.client(request)
        wait_s = self.attempts.wait_s(address)
        if wait_s:
            raise Refusal(
                429,
                "Too many wrong tokens. Try again in a moment.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )
        token = self.tokens.find(shown)
        if token is None:
            self.attempts.failed(address)
            raise Refusal(401, "That is not the token.", headers={"WWW-Authenticate": "Bearer"})
        return token

    def route(self, request: web.Request) -> str:
        """The route that a request was matched to, empty: none. The path as sent can be written in many ways."""
        resource = request.match_info.route.resource
        return resource.canonical.removeprefix(self.prefix) if resource is not None else ""

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
        if self.route(request) != LOGIN and request.headers.get(CHANGE_HEADER) != "1":
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
        route = self.route(request)
        if route in self.public:
            return await handler(request)
        right = self.session(request)
        if right is None and (shown := _bearer(request)) is not None:
            right = self.tokens.right(self.check_token(request, shown))
        if right is None:
            if route == "/" and request.method != hdrs.METH_POST:
                raise web.HTTPSeeOther("login")
            raise Refusal(401, "Log in, or send the token.", headers={"WWW-Authenticate": "Bearer"})
        if right is not Right.CHANGE and request.method == hdrs.METH_POST and route != LOGOUT:
            raise Refusal(403, "This token may look and change nothing.")
        return await handler(request)


def failure(status: int, text: str, **more: object) -> web.Response:
    """An error as the API gives it."""
    return web.json_response({"error": text, **more}, status=status)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Signal before any answer is sent: HEADERS, and nothing is kept that does not say otherwise itself."""
    response.headers.update(HEADERS)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")


def _bearer(request: web.Request) -> str | None:
    """The token that a program sends; None: it sends none."""
    scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return shown.strip() if scheme.lower() == "bearer" else None


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
