"""Templates: import once, fork workers, serve nothing."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from djsup_worker.messages import Drained, Loaded, LoadFailed, Unhealthy
from worker import interpreters
from worker.applications import HELLO
from worker.harness import client
from worker.interpreters import Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.conftest import MakeSite
    from worker.interpreters import Interpreter

LOADED_ONCE = """
import os

loaded_in = os.getpid()

def application(environ, start_response):
    start_response("200 OK", [])
    return [b"%d %d %d" % (loaded_in, os.getpid(), os.getppid())]
"""


def test_workers_are_forked_and_become_children_of_the_daemon(make_site: MakeSite) -> None:
    site = make_site(LOADED_ONCE)
    template = site.start_template()
    workers = [site.fork_worker(slot) for slot in range(2)]
    seen = set()
    with ExitStack() as users:
        for _ in range(200):
            # They stay: who has more than the other stands back. One after another might all be the same worker's.
            user = users.enter_context(client(site))
            loaded_in, pid, parent = map(int, user.get("/").body.split())
            assert (loaded_in, parent) == (template.pid, os.getpid())
            seen.add(pid)
            if len(seen) == 2:
                break
    assert seen == {worker.pid for worker in workers}, "the pids are the kernel's word"
    assert site.row(1).pid == workers[1].pid
    assert template.read() == ""


def test_a_killed_worker_leaves_template_and_the_others_alone(make_site: MakeSite) -> None:
    site = make_site(HELLO)
    site.start_template()
    first, _second = site.fork_worker(0), site.fork_worker(1)
    first.kill()
    assert first.exit_status() == -signal.SIGKILL
    site.fork_worker(0)
    with client(site) as user:
        assert user.get().status == 200


def test_output_of_a_worker_is_its_own(make_site: MakeSite) -> None:
    site = make_site(
        """
        import os

        def application(environ, start_response):
            print("from", os.getpid())
            start_response("200 OK", [])
            return []
        """
    )
    template = site.start_template()
    worker = site.fork_worker()
    with client(site) as user:
        user.get()
    worker.read("stdout", until=b"from %d" % worker.pid)
    assert template.read("stdout") == ""


def test_a_term_signal_ends_a_template_at_once(make_site: MakeSite) -> None:
    site = make_site(HELLO)
    template = site.start_template()
    worker = site.fork_worker()
    template.kill(signal.SIGTERM)
    assert template.exit_status() == 0
    with client(site) as user:
        assert user.get().status == 200, "its workers serve on"
        site.drain(worker, to=None)
    worker.channel.receive(Drained)
    assert worker.exit_status() == 0


def test_a_forked_worker_runs_exit_functions_once_and_its_own(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(
        f"""
        import atexit, os

        @atexit.register
        def told():
            with open({str(tmp_path / "exits")!r}, "a") as file:
                file.write("%d\\n" % os.getpid())

        def application(environ, start_response): ...
        """
    )
    site.start_template()
    worker = site.fork_worker()
    site.drain(worker, to=None)
    assert worker.exit_status() == 0
    assert (tmp_path / "exits").read_text() == f"{worker.pid}\n"


def test_a_template_without_a_daemon_waits_and_ends(make_site: MakeSite) -> None:
    site = make_site(HELLO, orphan_grace_s=0.3)
    template = site.start_template()
    template.channel.close()
    assert template.exit_status() == 0


@pytest.mark.parametrize(
    ("source", "line", "traced"),
    [
        ("import missing_module", "ModuleNotFoundError: No module named 'missing_module'", True),
        ("raise ValueError('broken')", "ValueError: broken", True),
        ("import sys; sys.exit('wrong')", "SystemExit: wrong", True),
        ("def application(:", "SyntaxError: ", True),
        ("other = 1", 'the module "app" has no "application"', False),
    ],
)
def test_a_broken_import_is_told_with_its_traceback(
    make_site: MakeSite, source: str, line: str, traced: bool
) -> None:
    site = make_site(source)
    for role in ("template", "worker"):
        process = site.run(role)
        failed = process.channel.receive(LoadFailed)
        assert line in failed.error
        assert ("Traceback" in failed.traceback or "SyntaxError" in failed.traceback) is traced
        assert "app.py" in failed.traceback or not traced
        assert process.exit_status() == 3


def test_what_makes_a_fork_unsafe_is_told(make_site: MakeSite) -> None:
    site = make_site(
        "import threading\nthreading.Thread(target=threading.Event().wait, name='t', daemon=True).start()\napplication = print\n"
    )
    assert site.run("template").channel.receive(Loaded).unsafe == ["the import started 1 thread: t"]
    loaded = site.run("worker").channel.receive(Loaded)
    assert loaded.unsafe == [], "a worker that boots by itself is not forked"


def test_nobody_is_served_before_the_worker_is_healthy(make_site: MakeSite) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            assert environ["HTTP_HOST"] == "shop.example", environ
            assert environ["HTTP_USER_AGENT"] == "djsup-health"
            start_response("200 OK" if environ["PATH_INFO"] == "/healthz" else "404 Not Found", [])
            return [b"fine"]
        """,
        health_path="/healthz",
        health_host="shop.example",
    )
    site.start_template()
    site.fork_worker()
    site.boot["health_path"] = "/other"


@pytest.mark.parametrize(
    ("body", "error", "details"),
    [
        (
            "start_response('503 Busy', [])\n    return [b'database is away']",
            "/healthz answered 503 Busy, 200 is expected",
            "database is away",
        ),
        ("raise ValueError('broken')", "/healthz answered 500", ""),
        ("return 1", "/healthz answered 500", ""),
    ],
)
def test_an_unhealthy_worker_says_why_and_ends(
    make_site: MakeSite, body: str, error: str, details: str
) -> None:
    site = make_site(f"def application(environ, start_response):\n    {body}\n", health_path="/healthz")
    site.start_template()
    worker = site.fork()
    said = worker.channel.receive(Unhealthy)
    assert error in said.error
    assert details in said.traceback
    assert worker.exit_status() == 4


def test_the_whole_story_on_every_python(
    make_site: MakeSite, interpreter: Interpreter, folder_for: Callable[[Interpreter], Path], tmp_path: Path
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    (public / "a.css").write_text("body {}")
    site = make_site(
        LOADED_ONCE,
        python=interpreter.path,
        folder=folder_for(interpreter),
        threads=2,
        health_path="/",
        static={"/static/": {"path": str(public), "changes": False}},
    )
    another = make_site.another(site)  # type: ignore[attr-defined]
    site.environment["PYTHONWARNINGS"] = another.environment["PYTHONWARNINGS"] = "error"
    template = site.run("template")
    assert template.channel.receive(Loaded).python.startswith(interpreter.version + ".")
    site.template = template
    worker = site.fork_worker()
    with client(site) as user:
        assert user.get().status == 200
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert user.answer().status == 200
        assert user.get("/static/a.css").body == b"body {}"
        assert user.get("/static/missing").status == 200
        another.start_template()
        staying = another.fork_worker()
        site.drain(worker, to=another)
        assert worker.channel.receive(Drained).handed_over == 1
        assert user.get().body.split()[1] == b"%d" % staying.pid
    assert worker.exit_status() == 0
    template.kill(signal.SIGTERM)
    assert template.exit_status() == 0
    assert worker.read() + template.read() + staying.read() == ""


SETTINGS = """
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
WSGI_APPLICATION = "app.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
INSTALLED_APPS = []
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
USE_TZ = True
"""
URLS = """
from django.db import connection
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path

def ask(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 41 + 1")
        return HttpResponse(cursor.fetchone())

def fail(request):
    raise ValueError("in a view")

urlpatterns = [
    path("ask", ask),
    path("fail", fail),
    path("file", lambda request: FileResponse(open(__file__, "rb"))),
    path("stream", lambda request: StreamingHttpResponse(iter(["a", "b"]))),
    path("post", lambda request: HttpResponse(request.body)),
]
"""


@pytest.fixture
def django_site(make_site: MakeSite) -> MakeSite:
    import sys  # noqa: PLC0415

    interpreter = interpreters.find("{}.{}".format(*sys.version_info))
    assert interpreter is not None
    try:
        packages = interpreters.packages(interpreter, "django>=5.2,<5.3")
    except Missing as missing:
        pytest.skip(f"Django cannot be had: {missing}")

    def make(*, settings: str = SETTINGS, urls: str = URLS, **boot: object) -> object:
        site = make_site(
            "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
            wsgi=None,
            **boot,
        )
        site.environment["PYTHONPATH"] = str(packages)
        (site.directory / "manage.py").write_text("os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'conf')\n")
        (site.directory / "conf.py").write_text(settings)
        (site.directory / "urls.py").write_text(urls)
        return site

    return make  # type: ignore[return-value]


def test_a_django_site_is_found_through_manage_py_and_served(django_site: MakeSite) -> None:
    site = django_site(threads=2, health_path="/ask")
    template = site.run("template")
    loaded = template.channel.receive(Loaded)
    assert (loaded.wsgi, loaded.settings, loaded.unsafe) == ("app:application", "conf", [])
    assert loaded.django.startswith("5.2")
    site.template = template
    worker = site.fork_worker()
    with client(site) as user:
        assert user.get("/ask").body == b"42"
        assert user.get("/file").body.decode() == URLS
        assert user.get("/stream").body == b"ab"
        user.send(
            b"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert user.answer().body == b"abc"
        assert user.get("/nowhere").status == 404
    assert worker.read().count("Traceback") == 0


LOADED = """
import sys
from django.db import models  # as a site with models does
from django.http import HttpResponse
from django.urls import path

ENGINE = "django.db.backends.sqlite3.base"
urlpatterns = [path("", lambda request: HttpResponse(str(ENGINE in sys.modules)))]
"""
CONFIGURES = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="urls", SECRET_KEY="x", DATABASES={"default": {
    "ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}})
application = get_wsgi_application()
"""


def test_what_speaks_to_the_database_is_loaded_before_the_fork(django_site: MakeSite) -> None:
    site = django_site(urls=LOADED)
    site.start_template()
    site.fork_worker()
    with client(site) as user:
        assert user.get("/").body == b"True"


def test_a_database_whose_driver_is_not_there_is_the_sites_affair(django_site: MakeSite) -> None:
    site = django_site(urls=LOADED, settings=SETTINGS.replace("backends.sqlite3", "backends.nonesuch"))
    site.start_template()
    site.fork_worker()
    with client(site) as user:
        assert user.get("/").body == b"False"


def test_a_django_site_that_configures_itself_is_known_for_one(django_site: MakeSite) -> None:
    site = django_site(urls=LOADED)
    (site.directory / "app.py").write_text(CONFIGURES)
    (site.directory / "manage.py").unlink()
    site.boot["wsgi"] = "app:application"
    template = site.run("template")
    loaded = template.channel.receive(Loaded)
    assert loaded.settings == ""
    assert loaded.django.startswith("5.2")
    site.template = template
    site.fork_worker()
    with client(site) as user:
        assert user.get("/").body == b"True"


def test_a_broken_urlconf_is_found_before_anything_is_replaced(django_site: MakeSite) -> None:
    failed = django_site(urls="import missing_view_module").run("template").channel.receive(LoadFailed)
    assert "No module named 'missing_view_module'" in failed.error
    assert "urls.py" in failed.traceback


def test_broken_settings_are_told(django_site: MakeSite) -> None:
    failed = (
        django_site(settings=SETTINGS + "\nimport missing_settings_module")
        .run("template")
        .channel.receive(LoadFailed)
    )
    assert "missing_settings_module" in failed.error


def test_an_unhealthy_django_site_shows_the_traceback_of_its_view(django_site: MakeSite) -> None:
    site = django_site(health_path="/fail")
    site.start_template()
    said = site.fork().channel.receive(Unhealthy)
    assert "/fail answered 500" in said.error
    assert "ValueError: in a view" in said.traceback


def test_a_connection_opened_by_the_import_is_closed_before_the_fork(django_site: MakeSite) -> None:
    site = django_site(urls=URLS + "\nconnection.ensure_connection()\n")
    template = site.start_template()
    assert not [fd for fd in Path(f"/proc/{template.pid}/fd").iterdir() if "db.sqlite3" in str(fd.readlink())]
    site.fork_worker()
    with client(site) as user:
        assert user.get("/ask").body == b"42"


def test_forking_is_quick(make_site: MakeSite) -> None:
    site = make_site(HELLO)
    site.start_template()
    begun = time.monotonic()
    site.fork_worker()
    assert time.monotonic() - begun < 2
