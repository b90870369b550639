"""The servers: what is installed for each, how it is started and told to reload, and what it can do.

Knows each server's own options and nothing of load or measurement. All listen on loopback only, write no access log,
keep connections open and run the same application with the same workers and threads. Apache's and djsup's
configurations are long enough for files of their own; what happens to a server that runs is in ``running.py``.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tools import debian
from tools.interpreters import this_one
from tools.say import Failure
from tools.virtualenv import Virtualenv

from benchmarks import apache, ours
from benchmarks.launch import Launch
from benchmarks.workloads import ROOT, STATIC_FOLDER, STATIC_URL, Session, Workload

KEEPALIVE_S = "15"
OURS = "djsup"
NEEDS = ROOT / "examples/blog/requirements.txt"


@dataclass(frozen=True, slots=True)
class Server:
    """One server in one way of running it."""

    name: str
    product: str
    """The file in requirements/ that says what pip installs beside what the sites need; djsup has none."""
    command: Callable[[Launch], list[str]]
    threads: int | None = None
    """Of each worker, when that is not for the workload to say."""
    extra: int = 0
    """Processes besides the workers and the one that was started."""
    tls: bool = True
    static: bool = False
    """Whether it serves static files by itself."""
    one_process: bool = False
    """Whether it serves in the process that was started, and in no other."""
    reload_signal: signal.Signals = signal.SIGHUP
    only: tuple[str, ...] = ()
    """The workloads that this way of running it is measured on, with one worker; empty: all, and the rest too."""
    closes_apart: bool = False
    """Whether it needs other options where each connection is for one request."""
    programs: tuple[tuple[str, str], ...] = ()
    """What has to be on this machine, and the Debian package of each."""

    @property
    def ours(self) -> bool:
        """Whether it is djsup."""
        return self.product == OURS

    @property
    def environment(self) -> Path:
        """The virtualenv of its own; djsup's sites have the blog's."""
        if self.ours:
            return ROOT / "examples/blog/.venv"
        return ROOT / ".cache/bench" / self.product

    def install(self) -> None:
        """Make its virtualenv, with what the sites need. Quick when it is there.

        Raises:
            Failure: it cannot be had here; the text says why.
        """
        if self.ours:
            return
        for program, package in self.programs:
            if debian.find(program) is None:
                raise Failure(f"there is no {program} here; to have it: {debian.command([package])}")
        own = ROOT / f"benchmarks/requirements/{self.product}.txt"
        Virtualenv(
            path=self.environment,
            log=ROOT / ".cache/log/bench.log",
            install=("-r", str(own), "-r", str(NEEDS)),
            directory=ROOT,
            sources=(own, NEEDS),
        ).prepare(this_one())

    def cannot(self, workload: Workload, workers: int) -> str | None:
        """Why a workload is not measured; None when it is, "" when nobody needs to be told."""
        if self.only and (workers > 1 or workload.name not in self.only):
            return ""
        if workload.tls and not self.tls:
            return "it has no TLS"
        if self.one_process and workers > 1:
            return "it runs one process only"
        return None

    def runs(self, session: Session) -> list[Session]:
        """What it is started for in a round of a session: at most twice, not at all where it can do nothing of it."""
        able = tuple(each for each in session.workloads if self.cannot(each, session.workers) is None)
        whole = replace(session, workloads=able)
        return whole.apart() if self.closes_apart else [whole] if able else []


def _gunicorn(kind: str) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        options = ["-b", launch.address, "-w", str(launch.workers), "-k", kind, "--http-parser", "fast"]
        options += ["--keep-alive", KEEPALIVE_S, "--log-level", "error", "--no-control-socket"]
        if kind == "gthread":
            options += ["--threads", str(launch.threads)]
        if launch.tls:
            options += ["--certfile", str(launch.tls.certificate), "--keyfile", str(launch.tls.key)]
        return [str(launch.programs / "gunicorn"), *options, launch.application.wsgi]

    return command


def _granian(launch: Launch) -> list[str]:
    options = ["--interface", "wsgi", "--http", "1", "--no-ws", "--log-level", "error"]
    options += ["--host", "127.0.0.1", "--port", str(launch.port), "--workers", str(launch.workers)]
    options += ["--blocking-threads", str(launch.threads)]
    if launch.static:
        options += ["--static-path-route", STATIC_URL, "--static-path-mount", str(STATIC_FOLDER)]
    if launch.tls:
        options += ["--ssl-certificate", str(launch.tls.certificate), "--ssl-keyfile", str(launch.tls.key)]
    return [str(launch.programs / "granian"), *options, launch.application.wsgi]


def _uwsgi(launch: Launch) -> list[str]:
    options = [
        "--master",
        "--need-app",
        "--die-on-term",
        "--disable-logging",
        "--module",
        launch.application.wsgi,
    ]
    options += [
        "--processes",
        str(launch.workers),
        "--tcp-nodelay",
    ]
    if launch.static:
        options += ["--static-map", f"{STATIC_URL}={STATIC_FOLDER}"]
    if launch.threads > 1:
        options += ["--threads", str(launch.threads)]
    if not launch.keep_alive:  # it closes, but says it to nobody
        options += ["--add-header", "Connection: close"]
    if launch.tls and launch.keep_alive:  # here its HTTPS is a router, a process before the workers
        options += ["--https", f"{launch.address},{launch.tls.certificate},{launch.tls.key}"]
        options += ["--http-keepalive", "--socket", str(launch.folder / "workers.sock")]
    elif launch.tls:
        options += ["--https-socket", f"{launch.address},{launch.tls.certificate},{launch.tls.key}"]
    else:  # http11-socket closes no connection, whatever the client asks for
        options += ["--http11-socket" if launch.keep_alive else "--http-socket", launch.address]
    return [str(launch.programs / "uwsgi"), *options]


def _waitress(launch: Launch) -> list[str]:
    options = ["--listen", launch.address, "--threads", str(launch.threads)]
    return [str(launch.programs / "waitress-serve"), *options, launch.application.wsgi]


ONE_THREAD = ("bare", "close", "blog")
"""Workloads that never wait: a server that gains by not having threads is measured without them, too."""

SERVERS = (
    Server("djsup", OURS, ours.command, extra=1, tls=ours.CAN_TLS, static=ours.CAN_STATIC),
    Server("gunicorn-gthread", "gunicorn", _gunicorn("gthread")),
    Server("gunicorn-sync", "gunicorn", _gunicorn("sync"), threads=1),
    Server("granian", "granian", _granian, static=True),
    Server("granian-1-thread", "granian", _granian, threads=1, static=True, only=ONE_THREAD),
    Server("uwsgi", "uwsgi", _uwsgi, static=True, closes_apart=True),
    Server("uwsgi-1-thread", "uwsgi", _uwsgi, threads=1, static=True, closes_apart=True, only=ONE_THREAD),
    Server("waitress", "waitress", _waitress, tls=False, one_process=True),
    Server(
        "mod_wsgi",
        "mod_wsgi",
        apache.command,
        extra=1,
        static=True,
        reload_signal=signal.SIGUSR1,
        programs=(("apache2", "apache2-bin"), ("apxs", "apache2-dev")),
    ),
)
BY_NAME = {each.name: each for each in SERVERS}
