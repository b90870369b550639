"""Three small pages of Django, without a database: quick, blocked for 20 ms, slow (500 ms).

Sleeping stands for waiting on a database or on another server: it leaves the interpreter to others.
"""

import time

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import path
from small import SETTINGS  # type: ignore[import-not-found]  # it lies beside this file

BLOCKED_S = 0.02
SLOW_S = 0.5

settings.configure(ROOT_URLCONF=__name__, **SETTINGS)
application = get_wsgi_application()

PAGE = engines["django"].from_string(
    "<!doctype html><title>{{ title }}</title><ul>{% for each in rows %}<li>{{ each }}</li>{% endfor %}</ul>"
)
ROWS = ["dunes", "forest", "hills", "ice", "night", "shore"]


def quick(request: HttpRequest) -> HttpResponse:
    """A page that is made at once."""
    return HttpResponse(PAGE.render({"title": "A page", "rows": ROWS}, request))


def blocked(request: HttpRequest) -> HttpResponse:
    """A page that waits for something on the way."""
    time.sleep(BLOCKED_S)
    return quick(request)


def slow(request: HttpRequest) -> HttpResponse:
    """A page that waits for long."""
    time.sleep(SLOW_S)
    return quick(request)


urlpatterns = [path("", quick), path("blocked", blocked), path("slow", slow)]
