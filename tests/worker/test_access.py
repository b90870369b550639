"""Real workers, real sockets, a real file: what a worker writes down of its requests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from djsup.config.access_format import parse
from djsup_worker import messages
from djsup_worker.messages import AccessLog, AccessLogTrouble, Drained
from worker.applications import HELLO
from worker.conftest import MakeSite
from worker.harness import WAIT_S, Channel, Client, Process, Site

Start = Callable[..., tuple[Process, Client]]
SHORT = "%m %U%q %>s %b %X"

APPLICATION = """
import json, threading
gate = threading.Event()

def application(environ, start_response):
    path = environ["PATH_INFO"]
    environ["REMOTE_ADDR"] = "6.6.6.6"
    if path == "/user":
        environ["REMOTE_USER"] = "eve"
    if path == "/fail":
        raise RuntimeError("on purpose")
    if path == "/wait":
        gate.wait(60)
    if path == "/open":
        gate.set()
    if path == "/big":
        start_response("200 OK", [("Content-Length", str(64 << 20))])
        return (b"x" * 65536 for _ in range(1024))
    if path == "/own":
        start_response("200 OK", [("x-request-id", "own")])
        return [b""]
    if path == "/id":
        seen = [environ.get("HTTP_X_REQUEST_ID"), environ.get("djsup.request_id")]
        start_response("200 OK", [])
        return [json.dumps(seen).encode()]
    start_response("404 Not Found" if path == "/none" else "200 OK", [])
    return [b"hello"]
"""


def tell(
    channel: Channel,
    file: Path | None,
    form: str = SHORT,
    *,
    style: str = "text",
    exclude: tuple[str, ...] = (),
    request_id: str = "off",
) -> None:
    fds = [] if file is None else [os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)]
    told = AccessLog(style=style, pieces=list(parse(form)), exclude=list(exclude), request_id=request_id)
    channel.send(told, fds)
    for fd in fds:
        os.close(fd)


def lines_of(file: Path, count: int) -> list[str]:
    """The lines of a log once there are so many."""
    deadline = time.monotonic() + WAIT_S
    while True:
        text = file.read_text() if file.exists() else ""
        if text.count("\n") >= count:
            assert text.endswith("\n")
            assert text.count("\n") == count, text
            return text.splitlines()
        assert time.monotonic() < deadline, f"{count} lines were awaited:\n{text}"
        time.sleep(0.01)


def heard(site: Site) -> None:
    """Return when the worker has read its messages: it does so before it lets a later connection in."""
    before = site.row().accepted
    deadline = time.monotonic() + WAIT_S
    while site.row().accepted == before:
        assert time.monotonic() < deadline, "the worker lets nobody in"
        site.connect().close()
        time.sleep(0.01)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "blog.access.log"


@pytest.fixture
def site(make_site: MakeSite) -> Site:
    return make_site(APPLICATION, threads=1)


@pytest.fixture
def connect() -> Iterator[Callable[[Site], Client]]:
    with contextlib.ExitStack() as open_sockets:
        yield lambda site: Client(open_sockets.enter_context(contextlib.closing(site.connect())))


@pytest.fixture
def start(site: Site, log: Path, connect: Callable[[Site], Client]) -> Start:
    """A worker that logs, and a client of it."""

    def start(form: str = SHORT, file: Path | None = log, **more: Any) -> tuple[Process, Client]:
        process = site.start_worker()
        tell(process.channel, file, form, **more)
        heard(site)
        return process, connect(site)

    return start


def test_every_request_is_a_line_and_no_line_waits_for_more_than_a_moment(log: Path, start: Start) -> None:
    _process, client = start()
    for path in ("/a", "/none?x=1", "/fail"):
        with contextlib.suppress(OSError):
            client.get(path)
    first, second, third = lines_of(log, 3)
    assert first == "GET /a 200 5 +"
    assert second == "GET /none?x=1 404 5 +"
    assert re.fullmatch(r"GET /fail 500 \d+ -", third)


def test_lines_are_of_the_request_as_it_came(log: Path, start: Start) -> None:
    _process, client = start("%h %u %{User-Agent}i %B %O")
    answer = client.get("/user", "User-Agent: Ly\tnx")
    (line,) = lines_of(log, 1)
    host, user, agent, body, total = line.split(" ")
    assert (host, user, agent, body) == ("127.0.0.1", "eve", "Ly\\tnx", "5")
    head = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    assert int(total) == len("HTTP/1.1 200 OK\r\n") + len(head) + 2 + 5


def test_refused_requests_are_lines_as_far_as_they_are_known(make_site: MakeSite, log: Path) -> None:
    limits = {"max_header_bytes": 16384, "max_body_bytes": 10, "header_timeout_s": 0.5, "body_timeout_s": 0.5}
    site = make_site(HELLO, limits=limits)
    process = site.start_worker()
    tell(process.channel, log, '%s "%r" %{User-Agent}i')
    post = b"POST /%s HTTP/1.1\r\nHost: x\r\nUser-Agent: L\r\n%s\r\n\r\n%s"
    refused = [
        (b"GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n", '400 "GET /a\\x01 HTTP/1.1" -'),
        (b"\x16\x03\x01\x02\r\n\r\n", '400 "\\x16\\x03\\x01\\x02" -'),
        (b"GET /b HTTP/1.1\r\nX: " + b"y" * 20000, '431 "GET /b HTTP/1.1" -'),
        (b"GET /" + b"z" * 9000, '414 "GET /' + "z" * 8187 + '" -'),
        (b'GET /"c HTTP/1.1\r\nHost:', '408 "GET /\\"c HTTP/1.1" -'),
        (post % (b"d", b"Content-Length: 11", b""), '413 "POST /d HTTP/1.1" -'),
        (post % (b"e", b"Content-Length: 9", b"1"), '408 "POST /e HTTP/1.1" L'),
        (post % (b"f", b"Transfer-Encoding: chunked", b"x\r\n"), '400 "POST /f HTTP/1.1" L'),
    ]
    for data, _line in refused:
        with contextlib.closing(site.connect()) as sock:
            sock.sendall(data)
            Client(sock).answer()
    assert lines_of(log, len(refused)) == [line for _data, line in refused]


def test_client_that_goes_away_is_marked(site: Site, log: Path, start: Start) -> None:
    _process, _client = start()
    with contextlib.closing(site.connect()) as sock:
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(10)
        # Closed with a reset, and so noticed by the first write that follows.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    (line,) = lines_of(log, 1)
    assert re.fullmatch(r"GET /big 499 \d+ X", line)


def test_requests_cut_by_the_end_of_a_drain_are_marked(make_site: MakeSite, log: Path) -> None:
    site = make_site(APPLICATION, threads=2)
    process = site.start_worker()
    tell(process.channel, log)
    with contextlib.closing(site.connect()) as waits, contextlib.closing(site.connect()) as reads_not:
        reads_not.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reads_not.recv(1)
        waits.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        site.wait_for(lambda row: any(each.path == "/wait" for each in row.running))
        site.drain(process, to=None, timeout_s=0.2)
        process.channel.receive(Drained)
    big, wait = sorted(lines_of(log, 2))
    assert re.fullmatch(r"GET /big 499 \d+ X", big)
    assert re.fullmatch(r"GET /wait 499 - X", wait)


def test_lines_are_there_when_a_drained_worker_says_so(site: Site, log: Path, start: Start) -> None:
    process, client = start()
    for _ in range(3):
        client.get()
    site.drain(process, to=None)
    client.sock.close()
    process.channel.receive(Drained)
    assert len(log.read_text().splitlines()) == 3


def test_excluded_paths_are_logged_only_when_they_fail(log: Path, start: Start) -> None:
    _process, client = start(exclude=("/healthz", "/static/*", "/none", "/ä"))
    for path in ("/healthz?a=1", "/static/a.css", "/none", "/healthz/x", "/%C3%A4", "/"):
        client.get(path)
    assert [line.split()[1] for line in lines_of(log, 3)] == ["/none", "/healthz/x", "/"]


def test_forked_worker_logs_its_first_request_and_its_health_question_never(
    make_site: MakeSite, log: Path, connect: Callable[[Site], Client]
) -> None:
    site = make_site(HELLO, health_path="/healthz")
    site.start_template()
    process = site.fork(early=lambda channel: tell(channel, log))
    process.channel.receive(messages.Ready)
    connect(site).get("/first")
    assert lines_of(log, 1) == ["GET /first 200 5 +"]


def test_one_write_is_many_whole_lines(site: Site, connect: Callable[[Site], Client]) -> None:
    """A pipe as the file: one read of it is one write, if that is small enough."""
    process = site.start_worker()
    reader, writer = os.pipe()
    process.channel.send(
        AccessLog(style="text", pieces=list(parse(SHORT)), exclude=[], request_id="off"), [writer]
    )
    os.close(writer)
    client = connect(site)
    for _ in range(20):
        client.get()
    data = os.read(reader, 65536)
    os.close(reader)
    assert data.endswith(b"\n")
    assert data.count(b"\n") > 1


def test_file_that_was_moved_is_left_and_no_line_is_lost(site: Site, log: Path, start: Start) -> None:
    process, client = start()
    for number in range(200):
        client.get(f"/{number}")
        if number % 40 == 20:
            log.rename(log.with_suffix(f".{number}"))
            tell(process.channel, log)
    site.drain(process, to=None)
    client.sock.close()
    process.channel.receive(Drained)
    paths = [
        line.split()[1] for each in log.parent.glob("blog.access.*") for line in each.read_text().splitlines()
    ]
    assert sorted(int(path[1:]) for path in paths) == list(range(200))
    assert len(list(log.parent.glob("blog.access.*"))) == 6


def test_two_workers_write_whole_lines_into_one_file(site: Site, log: Path) -> None:
    form = "%P %{X-Long}i %U end"
    site.start_template()
    processes = [site.fork(slot, lambda channel: tell(channel, log, form)) for slot in (0, 1)]
    for process in processes:
        process.channel.receive(messages.Ready)
    count, clients = 100, 3
    long = "x" * 2000  # a buffer holds few lines: the workers write often, and at the same time

    def ask(name: int) -> None:
        with contextlib.closing(site.connect()) as sock:
            client = Client(sock)
            for number in range(count):
                client.get(f"/{name}-{number}", f"X-Long: {long}")

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for process in processes:
        site.drain(process, to=None)
        process.channel.receive(Drained)
    lines = log.read_text().splitlines()
    found = [re.fullmatch(rf"\d+ {long} /(\d+-\d+) end", line) for line in lines]
    assert all(found)
    assert sorted(each[1] for each in found if each) == sorted(
        f"{name}-{number}" for name in range(clients) for number in range(count)
    )


def test_full_disk_costs_lines_and_no_answer_and_is_said_once(site: Site, log: Path, start: Start) -> None:
    process, client = start(file=Path("/dev/full"))
    for _ in range(3):
        assert client.get().status == 200
    said = process.channel.receive(AccessLogTrouble)
    assert said.error == "No space left on device"
    assert said.dropped >= 1
    for _ in range(2):
        assert client.get().status == 200
    tell(process.channel, log)  # the lines that waited are lost, and counted
    heard(site)
    assert client.get("/again").status == 200
    later = [process.channel.receive(AccessLogTrouble)]
    while later[-1].error:
        later.append(process.channel.receive(AccessLogTrouble))
    assert said.dropped + sum(each.dropped for each in later) == 5
    assert lines_of(log, 1) == ["GET /again 200 5 +"]


def test_nothing_is_written_once_the_daemon_says_so(site: Site, log: Path, start: Start) -> None:
    process, client = start()
    client.get("/a")
    tell(process.channel, None)
    heard(site)
    client.get("/b")
    site.drain(process, to=None)
    client.sock.close()
    process.channel.receive(Drained)
    assert log.read_text() == "GET /a 200 5 +\n"


# --- request ids -------------------------------------------------------------------------------


def test_id_is_the_applications_and_the_logs_and_a_strangers_is_not_taken(log: Path, start: Start) -> None:
    _process, client = start(style="json")
    answer = client.get("/id", "X-Request-ID: forged")
    (line,) = lines_of(log, 1)
    made = json.loads(line)["request_id"]
    assert json.loads(answer.body) == [made, made]
    assert re.fullmatch(r"[0-9a-f]{24}", made)
    assert answer.header("X-Request-ID") is None


def test_id_is_sent_back_when_that_is_asked_for(site: Site, connect: Callable[[Site], Client]) -> None:
    process = site.start_worker()
    tell(process.channel, None, request_id="respond")
    heard(site)
    client = connect(site)
    answer = client.get("/id")
    assert json.loads(answer.body)[0] == answer.header("X-Request-ID")
    assert client.get("/own").header("X-Request-ID") == "own"
    assert client.get("/fail").header("X-Request-ID")


def test_without_a_wish_for_ids_the_header_is_the_clients(start: Start) -> None:
    _process, client = start()
    assert json.loads(client.get("/id", "X-Request-ID: mine").body) == ["mine", None]
