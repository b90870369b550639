"""wrk's summary, and the clients that notice what wrk does not."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from benchmarks.load import (
    PLAIN,
    Clients,
    ClientsResult,
    Manner,
    Newcomer,
    Wrk,
    WrkResult,
    closes,
    read_summary,
)

SUMMARY = """\
Running 1s test @ http://127.0.0.1:38555/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   654.10us    1.21ms  20.24ms   93.22%
    Req/Sec    35.35k     2.61k   40.04k    81.82%
  38668 requests in 1.10s, 3.80MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
{"requests": 38668, "duration_us": 1100211, "failed": 4, "p50_us": 354, "p99_us": 5891, "p999_us": 12034}
"""


def test_summary_of_wrk_is_read_in_seconds_and_milliseconds() -> None:
    result = read_summary(SUMMARY)
    assert (result.requests, result.failed) == (38668, 4)
    assert result.seconds == pytest.approx(1.100211)
    assert result.requests_per_s == pytest.approx(35146, abs=1)
    assert (result.p50_ms, result.p99_ms, result.p999_ms) == (0.354, 5.891, 12.034)


def test_wrk_that_sums_up_nothing_is_an_error_with_its_own_words() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        read_summary("unable to connect to 127.0.0.1:1 Connection refused\n")


@contextmanager
def http_server(protocol: str = "HTTP/1.1") -> Iterator[tuple[str, list[tuple[int, str | None]]]]:
    """A server that answers a POST 200 and everything else 404; yields its address and what was sent to it."""
    seen: list[tuple[int, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = protocol

        def do_GET(self) -> None:
            seen.append((0, self.headers["Connection"]))
            self._answer(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((len(body), self.headers["Connection"]))
            self._answer(200)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if self.headers["Connection"] == "close":
                self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", seen
        server.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="there is no wrk here")
def test_wrk_sends_bodies_and_closes_and_counts_wrong_answers() -> None:
    def run(**options: Any) -> WrkResult:
        seen.clear()
        wrk = Wrk(url, 60, 2, **options)
        end = time.monotonic() + 30
        while len(seen) < 10 and time.monotonic() < end:
            time.sleep(0.01)
        wrk.stop()
        return wrk.result()

    with http_server() as (url, seen):
        uploads = run(body_bytes=1000, keep_alive=False)
        assert set(seen) == {(1000, "close")}
        wrong = run()
    assert uploads.requests > 0
    assert uploads.failed == 0
    assert uploads.p50_ms <= uploads.p99_ms <= uploads.p999_ms
    assert wrong.failed == wrong.requests > 0


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that handles one connection at a time; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                kept.append(connection)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in kept:
                each.close()


def ok(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def ok_and_close(connection: socket.socket) -> None:
    ok(connection)
    connection.shutdown(socket.SHUT_RDWR)


def test_server_that_ignores_the_wish_to_close_is_told_from_one_that_heeds_it() -> None:
    with raw_server(ok_and_close) as port:
        assert closes("127.0.0.1", port, "/", None)
    with raw_server(ok) as port:
        assert not closes("127.0.0.1", port, "/", None)


def newcomers_wait(port: int, load_began: float, load_s: float) -> float | None:
    newcomer = Newcomer(f"http://127.0.0.1:{port}/", load_began, load_s)
    newcomer.join(10)
    return newcomer.waited_ms()


def test_newcomer_that_is_answered_while_the_load_lasts_says_how_long_it_waited() -> None:
    with raw_server(ok_and_close) as port:
        waited_ms = newcomers_wait(port, time.monotonic() - 30, load_s=60)
    assert waited_ms is not None


def test_newcomer_that_is_answered_only_after_the_load_counts_as_never_answered() -> None:
    over = time.monotonic() + 0.5

    def late(connection: socket.socket) -> None:
        time.sleep(max(0.0, over - time.monotonic()))
        ok_and_close(connection)

    with raw_server(late) as port:
        assert newcomers_wait(port, time.monotonic(), load_s=0.2) is None


def clients_see(port: int, manner: Manner, enough: Callable[[], bool]) -> ClientsResult:
    with Clients(port, "/", 2, manner) as clients:
        end = time.monotonic() + 30
        while not enough() and time.monotonic() < end:
            time.sleep(0.01)
    return clients.result


def test_clients_send_bodies_and_several_requests_at_once_and_slowly() -> None:
    with http_server() as (url, seen):
        port = int(url.rsplit(":", 1)[1].rstrip("/"))
        manner = Manner(body_bytes=1000, at_once=3, takes_s=0.2)
        result = clients_see(port, manner, lambda: len(seen) >= 12)
        assert (result.failed, result.closed) == (0, 0)
        assert result.requests == len(seen) >= 12
        assert result.requests % 3 == 0
        assert set(seen) == {(1000, None)}
        assert result.latencies_ms[0] >= 200


def test_clients_count_what_is_closed_and_what_fails() -> None:
    """One connection after another has one answer, and is cut in the middle of the next."""
    cuts = []

    def cut(connection: socket.socket) -> None:
        with suppress(OSError):  # at the end the client is quicker
            ok(connection)
            if connection.recv(65536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
                cuts.append(connection)
            connection.shutdown(socket.SHUT_RDWR)

    with raw_server(cut) as port:
        result = clients_see(port, PLAIN, lambda: len(cuts) >= 4)
    assert len(cuts) >= 4
    assert result.failed == result.closed == len(cuts)
    assert result.requests >= result.failed


def test_requests_that_a_late_answer_makes_late_count_from_when_they_were_due() -> None:
    """One client is answered for long, the other waits until after the end."""
    asked: list[socket.socket] = []
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with suppress(OSError):
            if not asked:
                while connection.recv(65536):
                    if not asked:
                        time.sleep(0.5)
                    asked.append(connection)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            else:
                over.wait(30)
                ok_and_close(connection)

    def enough() -> bool:
        return len(asked) >= 20

    with raw_server(answer) as port:
        timer = threading.Timer(2.0, over.set)
        timer.start()
        begun = time.monotonic()
        result = clients_see(port, Manner(every_s=0.05), enough)
        took_s = time.monotonic() - begun
        over.set()
        timer.cancel()
    late = [each for each in result.latencies_ms if each > 100]
    # The first answer makes some seven late. The other client would have asked every 50 ms.
    assert len(late) >= 7 + 10, result.latencies_ms
    assert result.worst_ms <= took_s * 1000 + 2000


def test_clients_tell_when_only_one_deploy_answers_any_more() -> None:
    """Two that take turns are none, nor is one that answers a few times in a row."""
    answered: list[int] = []
    allowed = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        few = len(answered) % 30 > 15
        answered.append(3 if few or allowed.is_set() else 1 + len(answered) % 2)
        head = (
            f"HTTP/1.1 200 OK\r\nX-Deploy: {answered[-1]}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + b"ok")
        with suppress(OSError):  # the client may be quicker
            connection.shutdown(socket.SHUT_RDWR)

    with raw_server(answer) as port, Clients(port, "/", 2, Manner(keep_alive=False)) as clients:
        assert not clients.await_deploy(3, 1.0)
        allowed.set()
        assert clients.await_deploy(3, 30)
        assert answered.count(3) >= 20
        begun = len(answered)
        assert not clients.await_deploy(4, 0.1)
    assert clients.result.requests >= begun
