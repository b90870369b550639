"""The pages that a browser opens: the application's shell, the login, the way out.

They hold no data: what is shown comes through the API and is put in place by static/.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from aiohttp import web

from djsup_web.auth import SESSION_S
from djsup_web.shield import Refusal

if TYPE_CHECKING:
    from djsup_web.shield import Shield
    from djsup_web.static_files import StaticFiles

_MESSAGE = "<!-- message -->"


class Pages:
    """The handlers and what they need."""

    def __init__(self, shield: Shield, static: StaticFiles) -> None:
        self._shield = shield
        self._static = static
        self._shell = static.text("index.html")
        self._login = static.text("login.html")

    def routes(self) -> list[web.RouteDef]:
        """The pages and the files that they load."""
        return [
            web.get("/", self.shell),
            web.get("/login", self.login_form),
            web.post("/login", self.login),
            web.post("/logout", self.logout),
            web.get("/static/{name}", self._static.serve),
        ]

    async def shell(self, _request: web.Request) -> web.Response:
        """The application."""
        return web.Response(text=self._shell, content_type="text/html")

    async def login_form(self, request: web.Request) -> web.Response:
        """Asks for the token."""
        if self._shield.session(request) is not None:
            raise web.HTTPSeeOther("./")
        return web.Response(text=self._login, content_type="text/html")

    async def login(self, request: web.Request) -> web.Response:
        """Make a session of the right token; the form again, with the reason, of a wrong one."""
        form = await request.post()
        shown = form.get("token", "")
        try:
            token = self._shield.check_token(request, shown.strip() if isinstance(shown, str) else "")
        except Refusal as refusal:
            message = f'<p class="message" role="alert" id="problem">{escape(str(refusal))}</p>'
            page = self._login.replace(_MESSAGE, message)
            headers = {name: value for name, value in refusal.headers.items() if name == "Retry-After"}
            return web.Response(text=page, status=refusal.status, content_type="text/html", headers=headers)
        response = web.Response(status=303, headers={"Location": "./"})
        response.set_cookie(
            self._shield.cookie,
            self._shield.sessions.open(token),
            max_age=SESSION_S,
            path=self._shield.cookie_path,
            secure=self._shield.proxies.is_secure(request) or None,
            httponly=True,
            samesite="Strict",
        )
        return response

    async def logout(self, request: web.Request) -> web.Response:
        """End the session, here and on every page that has it."""
        self._shield.sessions.close(request.cookies.get(self._shield.cookie, ""))
        response = web.Response(status=204)
        path = self._shield.cookie_path
        response.del_cookie(self._shield.cookie, path=path, httponly=True, samesite="Strict")
        return response
