"""A Django site that is deployed again and again while clients ask for its front page: a list from a database, in a template.

What is deployed is this text with a number and a time written in. To load it takes as long as the time says, and what it
takes to import Django. What does not change, the settings and the database, is there already.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import models
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from small import SETTINGS  # type: ignore[import-not-found]  # it lies beside this file

NUMBER, LOADS_S = 0, 0.0

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": Path(__file__).with_name("site.sqlite3"),
            "CONN_MAX_AGE": None,
        }
    },
    ROOT_URLCONF=__name__,
    **SETTINGS,
)
application = get_wsgi_application()


class Entry(models.Model):  # type: ignore[misc]  # Django brings no types
    """A line of the list. ``benchmarks.reloading.prepare`` has made the table."""

    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=100)

    class Meta:
        """Names the table."""

        app_label = "deployed"
        db_table = "entry"

    def __str__(self) -> str:
        return str(self.name)


PAGE = engines["django"].from_string(
    "<!doctype html><title>{{ title }}</title><table>{% for each in entries %}"
    '<tr class="{% cycle "odd" "even" %}"><td>{{ forloop.counter }}</td><td>{{ each.name|title }}</td>'
    "<td>{{ each.kind|upper }}</td></tr>{% endfor %}</table>"
)


def front(request: HttpRequest) -> HttpResponse:
    """The list, and in the head which deploy it is of."""
    entries = Entry.objects.order_by("name")
    page = PAGE.render({"title": f"List {NUMBER}", "entries": entries}, request)
    return HttpResponse(page, headers={"X-Deploy": NUMBER})


def number(_request: HttpRequest) -> HttpResponse:
    """Which deploy this is."""
    return HttpResponse(f"{NUMBER}")


def long(request: HttpRequest) -> HttpResponse:
    """The list, after a wait for something."""
    time.sleep(1.5)
    return front(request)


def stream(_request: HttpRequest) -> StreamingHttpResponse:
    """Something that takes two seconds to say."""

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"a piece\n"
            time.sleep(0.1)

    return StreamingHttpResponse(pieces())


@csrf_exempt  # type: ignore[untyped-decorator]  # as above
def upload(request: HttpRequest) -> HttpResponse:
    """Takes what is sent."""
    while request.read(65536):
        pass
    return HttpResponse(b"taken\n")


urlpatterns = [
    path("", front),
    path("number", number),
    path("long", long),
    path("stream", stream),
    path("upload", upload),
]

time.sleep(LOADS_S)
