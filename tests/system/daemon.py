"""A real daemon with real Django sites, for the tests of what djsup promises.

``DaemonUnderTest`` writes a configuration, runs ``djsup start`` on it as a user would, and speaks to it
through the command line, signals and HTTP. A failing test prints the daemon's log.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from djsup.client import Client

T = TypeVar("T")
WAIT_S = 30.0
"""The longest wait for anything; a slow machine is no reason to fail, a hang is."""
COMMAND_S = 60.0
"""The longest that a command may take."""


_PORTS = itertools.cycle(range(12_000, 32_000))
for _ in range(os.getpid() * 389 % 20_000):  # tests run in several processes
    next(_PORTS)


def free_port() -> int:
    """A port that nobody uses, and that the kernel gives to no client: those it takes from 32768 on."""
    for port in _PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("the cycle has no end")


def wait_for(question: Callable[[], T | None], what: str, timeout_s: float = WAIT_S) -> T:
    """The first true answer to a question asked again and again; fails when the time is over."""
    end = time.monotonic() + timeout_s
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


SETTINGS = """
import os
SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(os.path.dirname(__file__), "db.sqlite3")}}
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""

URLS = """
import hashlib, os, sys, time
import django
from django.db import connection
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

VERSION = %(version)r

def index(request):
    return HttpResponse(VERSION)

def about(request):
    return JsonResponse({
        "version": VERSION, "pid": os.getpid(), "python": "%%d.%%d" %% sys.version_info[:2], "django": django.get_version(),
        "uid": os.getuid(), "groups": os.getgroups(), "environ": dict(os.environ), "path": sys.path, "cwd": os.getcwd(),
        "modules": sorted(name for name in sys.modules if name.startswith("djsup")),
        "remote": request.META.get("REMOTE_ADDR"), "secure": request.is_secure(), "multithread": request.META["wsgi.multithread"],
    })

def slow(request):
    time.sleep(float(request.GET.get("s", "1")))
    return HttpResponse(VERSION)

def database(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))

def upload(request):
    return HttpResponse(hashlib.sha256(request.read()).hexdigest())

def stream(request):
    return StreamingHttpResponse(str(number) + "\\n" for number in range(int(request.GET.get("n", "10"))))

def loud(request):
    print("printed to stdout", flush=True)
    print("printed to stderr", file=sys.stderr, flush=True)
    return HttpResponse("loud")

def broken(request):
    raise RuntimeError("a view that fails")

def healthz(request):
    return HttpResponse("not well" if HEALTH != 200 else "well", status=HEALTH)

HEALTH = %(health)d

urlpatterns = [
    path("", index), path("about", about), path("slow", slow), path("database", database), path("upload", upload),
    path("stream", stream), path("loud", loud), path("broken", broken), path("healthz", healthz),
]
"""

WSGI = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""

MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""


@dataclass
class Project:
    """A small Django project on disk, which can be deployed anew."""

    directory: Path
    deploys: int = 0

    def deploy(
        self, version: str = "one", *, health: int = 200, urls: str | None = None, wsgi: str = WSGI
    ) -> None:
        """Write the code, as a deploy would."""
        package = self.directory / "project"
        package.mkdir(parents=True, exist_ok=True)
        (self.directory / "manage.py").write_text(MANAGE)
        (package / "__init__.py").write_text("")
        (package / "settings.py").write_text(SETTINGS)
        (package / "urls.py").write_text(
            urls if urls is not None else URLS % {"version": version, "health": health}
        )
        (package / "wsgi.py").write_text(wsgi)
        # Python takes a .pyc for that of any source of the same size and the same second: give each deploy its own.
        self.deploys += 1
        moment = time.time() - 10_000 + self.deploys
        for path in package.glob("*.py"):
            os.utime(path, (moment, moment))


@dataclass
class Result:
    """What a command of djsup printed and how it ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class DaemonUnderTest:
    """One daemon in a folder of its own."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    ports: dict[str, int] = field(default_factory=dict)
    sites: dict[str, str] = field(default_factory=dict)
    top: str = ""
    dashboard_port: int | None = None
    command: tuple[str, ...] = (sys.executable, "-m", "djsup")
    """How djsup is run."""

    @property
    def config(self) -> Path:
        return self.folder / "djsup.toml"

    @property
    def runtime(self) -> Path:
        return self.folder / "run"

    @property
    def log_file(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def site(
        self,
        name: str,
        python: Path,
        directory: Path | None = None,
        *,
        listen: str | None = None,
        more: str = "",
    ) -> int:
        """Write a site into the configuration; its port."""
        port = self.ports.setdefault(name, free_port())
        where = listen or f"127.0.0.1:{port}"
        self.sites[name] = (
            f'[sites.{name}]\ndirectory = "{directory or self.folder / name}"\npython = "{python}"\n'
            f'listen = ["{where}"]\n{more}\n'
        )
        self.write()
        return port

    def dashboard(self) -> int:
        self.dashboard_port = free_port()
        self.write()
        return self.dashboard_port

    def write(self) -> None:
        dashboard = ""
        if self.dashboard_port is not None:
            token = self.folder / "token"
            dashboard = f'[dashboard]\nlisten = "127.0.0.1:{self.dashboard_port}"\ntoken_file = "{token}"\n'
        self.config.write_text(
            f'runtime_dir = "{self.runtime}"\n{self.top}\n{dashboard}\n' + "\n".join(self.sites.values())
        )

    def start(self, *, wait: bool = True) -> None:
        """Run ``djsup start`` in the foreground and wait until every site serves or has failed."""
        reader, writer = os.pipe()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "start", "-c", str(self.config), "--ready-fd", str(writer)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, pass_fds=(writer,), cwd=self.folder,
            )  # fmt: skip
        os.close(writer)
        with os.fdopen(reader) as ready:
            if wait:
                line = ready.readline()
                assert line, f"the daemon did not start: {self.log}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def run(self, *arguments: str, timeout_s: float = COMMAND_S) -> Result:
        """Run one command of djsup against this daemon."""
        done = subprocess.run(
            [*self.command, *arguments, "-c", str(self.config)],
            capture_output=True, text=True, timeout=timeout_s, check=False, cwd=self.folder,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def done(self, *arguments: str, timeout_s: float = COMMAND_S) -> Result:
        """As run, for a command that must work."""
        result = self.run(*arguments, timeout_s=timeout_s)
        assert result.status == 0, f"djsup {' '.join(arguments)}: {result}\n{self.log}"
        return result

    def status(self, site: str | None = None) -> Any:
        picture = self.ask("status", **({"site": site} if site else {}))
        return picture["sites"][0] if site else picture

    def ask(self, verb: str, **arguments: Any) -> Any:
        """One question over the control socket: what the command line does, without a process for it."""
        return Client(str(self.runtime)).call(verb, WAIT_S, **arguments)

    def reload(self, site: str, *, wait: bool = True, **wishes: Any) -> dict[str, Any]:
        """What ``djsup reload SITE`` does, without a process for it; the outcome."""
        outcome: dict[str, Any] = self.ask("reload", sites=[site], wait=wait, **wishes)["sites"][0]
        return outcome

    def reload_well(self, *sites: str) -> None:
        """As reload, of these sites or of all, which must work."""
        outcomes = Client(str(self.runtime)).call("reload", COMMAND_S, sites=list(sites))["sites"]
        assert {each["result"] for each in outcomes} == {"done"}, f"{outcomes}\n{self.log}"

    def workers(self, site: str) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = self.status(site)["workers"]
        return workers

    def serving(self, site: str) -> set[int]:
        """The pids of its workers that serve; one of old code may take a moment to end."""
        return {each["pid"] for each in self.workers(site) if each["state"] in ("idle", "busy")}

    def events(self, site: str | None = None) -> list[dict[str, Any]]:
        lines = Client(str(self.runtime)).stream("events", WAIT_S, site=site, follow=False, limit=1000)
        return [line.value for line in lines if line.kind == "event"]

    def wait_state(self, site: str, state: str) -> Any:
        return wait_for(
            lambda: found if (found := self.status(site))["state"] == state else None, f"{site} to be {state}"
        )

    def get(
        self,
        site: str,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes | None = None,
        timeout_s: float = WAIT_S,
    ) -> tuple[int, bytes]:
        """One request to a site on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[site], timeout=timeout_s)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, site: str, path: str) -> Any:
        status, body = self.get(site, path)
        assert status == 200, (status, body)
        return json.loads(body)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def family(self) -> list[psutil.Process]:
        """Every process below the daemon."""
        return psutil.Process(self.pid).children(recursive=True)

    def wait_end(self, timeout_s: float = WAIT_S) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """End the daemon and whatever it left behind, however the test went."""
        if self.process is None:
            return
        family: list[psutil.Process] = []
        if self.process.poll() is None:
            family = self.family()
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        for process in family:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
