"""What a site with TLS says of it: plain http is sent on to https, and https answers carry HSTS (RFC 6797).

Both stand around the application, so that a site without them pays nothing. What counts is ``wsgi.url_scheme``,
not the socket: a request that a trusted proxy took in by https is https.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Optional, Tuple
from urllib.parse import quote

if TYPE_CHECKING:
    from djsup_worker.application import Application

ACME = "/.well-known/acme-challenge/"
"""Where a certificate authority asks, by http, whether a name is ours (RFC 8555, 8.3)."""
SAFE_METHODS = ("GET", "HEAD")
HSTS = "Strict-Transport-Security"

Headers = List[Tuple[str, str]]


def only(application: Application, redirect: str, hsts: str) -> Application:
    """The application, behind a redirect and with HSTS; as it is when both texts are empty.

    ``redirect`` is an origin, as ``https://example.com:8443``, in which ``{host}`` stands for the host that was asked;
    ``hsts`` the value of the header.
    """
    if hsts:
        application = _with_hsts(application, hsts)
    if redirect:
        application = _with_redirect(application, redirect)
    return application


def _with_hsts(application: Application, value: str) -> Application:
    def secured(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: Headers, exc_info: Optional[Any] = None) -> Any:
            if not any(name.lower() == "strict-transport-security" for name, _ in headers):
                headers = [*headers, (HSTS, value)]  # one of the application's own goes before it
            return start_response(status, headers, exc_info)

        if environ["wsgi.url_scheme"] != "https":  # RFC 6797, 7.2: not over plain http
            return application(environ, start_response)
        return application(environ, start)

    return secured


def _with_redirect(application: Application, origin: str) -> Application:
    def redirecting(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["wsgi.url_scheme"] == "https" or environ["PATH_INFO"].startswith(ACME):
            return application(environ, start_response)
        # RFC 9110, 15.4.9: 308 keeps method and body. Clients know 301 longer, and it does for the safe methods.
        is_safe = environ["REQUEST_METHOD"] in SAFE_METHODS
        start_response(
            "301 Moved Permanently" if is_safe else "308 Permanent Redirect",
            [
                ("Location", origin.replace("{host}", _host(environ)) + _target(environ)),
                ("Content-Type", "text/plain; charset=utf-8"),
            ],
        )
        return [b"This site speaks https.\n"]

    return redirecting


def _host(environ: Dict[str, Any]) -> str:
    """The host that was asked, without its port."""
    asked: str = environ.get("HTTP_HOST", "")
    host = asked.partition("]")[0] + "]" if asked.startswith("[") else asked.partition(":")[0]
    if host:
        return host
    name: str = environ["SERVER_NAME"]
    return "[%s]" % name if ":" in name else name


def _target(environ: Dict[str, Any]) -> str:
    """Path and query as they were asked."""
    target: str = environ["REQUEST_URI"].partition("#")[0]
    if target.startswith("/"):
        return target
    query = environ["QUERY_STRING"]
    return quote(environ["PATH_INFO"], encoding="latin-1") + ("?" + query if query else "")
