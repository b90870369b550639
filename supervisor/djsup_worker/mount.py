"""A site below a path prefix: SCRIPT_NAME and PATH_INFO as PEP 3333 has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable

if TYPE_CHECKING:
    from djsup_worker.application import Application


def under(application: Application, prefix: str) -> Application:
    """The application, told that it is at ``prefix`` (as ``/shop``, in the bytes of its UTF-8 as Latin-1).

    A path that does not begin so is left as it is: the health question asks for a path of the application's.
    """
    below = prefix + "/"

    def mounted(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        environ["SCRIPT_NAME"] = prefix
        if path.startswith(below) or path == prefix:
            environ["PATH_INFO"] = path[len(prefix) :]
        return application(environ, start_response)

    return mounted
