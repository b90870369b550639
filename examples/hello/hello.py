"""The smallest of the example sites: plain WSGI, which says where it was asked for and what runs it."""

import sys
from html import escape

PAGE = """<!doctype html>
<html lang="en">
<title>Hello</title>
<h1>Hello from Python {python}</h1>
<p>Host <code>{host}</code>, SCRIPT_NAME <code>{mount}</code>, PATH_INFO <code>{path}</code></p>
</html>
"""


def application(environ, start_response):
    page = PAGE.format(
        python=sys.version.split()[0],
        host=escape(environ.get("HTTP_HOST", "")),
        mount=escape(environ["SCRIPT_NAME"]),
        path=escape(environ["PATH_INFO"]),
    ).encode("utf-8", "replace")
    start_response(
        "200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(page)))]
    )
    return [page]
