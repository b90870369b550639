"""What is asked for: the applications, the workloads, and which workloads share one run of a server.

Knows nothing of servers. Everything that a server needs to know of a run stands in ``Session``.
"""

from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "benchmarks/apps"
BLOG_FOLDER = ROOT / "examples/blog"
STATIC_URL = "/static"
STATIC_FOLDER = BLOG_FOLDER / "static_collected"
"""What ``collectstatic`` of the blog has written."""
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Application:
    """One WSGI application. Every server runs it in an environment of its own with the same packages in it."""

    name: str
    directory: Path
    wsgi: str
    check: str = "/"
    """A path that is answered 200 when it serves."""


BARE = Application("bare", APPS, "bare:application")
PAGES = Application("pages", APPS, "pages:application")
BLOG = Application("blog", BLOG_FOLDER, "blog.wsgi:application")


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request, from a number of connections at a time."""

    name: str
    sentence: str
    application: Application
    path: str = "/"
    connections: int = 16
    threads: int = 4
    """Of each worker."""
    workers: tuple[int, ...] = (1, 2)
    keep_alive: bool = True
    body_bytes: int = 0
    """Sent as a POST when there is any."""
    tls: bool = False
    beside: str = ""
    """A path that ``SLOW_CONNECTIONS`` more connections ask for meanwhile; their requests are not counted."""
    times: int = 1
    """How many times longer than the others it is measured: those with few requests a second need it."""


SLOW_CONNECTIONS = 4

WORKLOADS = (
    Workload("bare", "a function that answers 14 bytes", BARE),
    Workload("close", "the function of `bare`, a new connection for each request", BARE, keep_alive=False),
    Workload("10k", "an answer of 10 KiB", BARE, "/10k"),
    Workload("1m", "an answer of 1 MiB", BARE, "/1m"),
    Workload("upload", "an upload of 1 MiB, read by the application", BARE, "/upload", body_bytes=MIB),
    Workload("blog", "the front page of the example blog", BLOG, times=2),
    Workload("static", "a style sheet of the blog: by the server itself, or by WhiteNoise in the site", BLOG,
             f"{STATIC_URL}/posts/site.css"),
    Workload("page", "a small Django page, 8 connections, 8 threads", PAGES, connections=8, threads=8),
    Workload("mix", "the page of `page` beside 4 connections of requests that sleep 500 ms", PAGES, connections=8, threads=8,
             workers=(1,), beside="/slow", times=2),
    Workload("blocked", "a Django page that waits 20 ms, 16 connections, 8 threads", PAGES, "/blocked", threads=8),
    Workload("tls", "the function of `bare` over TLS, keep-alive", BARE, tls=True),
    Workload("tls-new", "the function of `bare` over TLS, a new connection and handshake for each request", BARE, tls=True,
             keep_alive=False),
)  # fmt: skip
BY_NAME = {each.name: each for each in WORKLOADS}
QUICK_ALONE = "page"
"""The workload that ``mix`` is to be compared with."""


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a server, in which several workloads are measured one after another."""

    application: Application
    workers: int
    threads: int
    tls: bool = False
    workloads: tuple[Workload, ...] = ()

    @property
    def keep_alive(self) -> bool:
        """Whether any client sends more than one request over a connection."""
        return not self.workloads or any(each.keep_alive for each in self.workloads)

    def apart(self) -> list["Session"]:
        """The same in two runs, one of them for clients that ask to close each connection, if there are both."""
        kept = tuple(each for each in self.workloads if each.keep_alive)
        closed = tuple(each for each in self.workloads if not each.keep_alive)
        return [replace(self, workloads=several) for several in (kept, closed) if several]


def sessions(workloads: list[Workload]) -> list[Session]:
    """As few runs as the workloads need, those with one worker first."""
    together: dict[Session, list[Workload]] = {}
    for workload in workloads:
        for workers in workload.workers:
            session = Session(workload.application, workers, workload.threads, workload.tls)
            together.setdefault(session, []).append(workload)
    whole = [replace(session, workloads=tuple(several)) for session, several in together.items()]
    return sorted(whole, key=lambda session: session.workers)
