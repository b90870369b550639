"""PEP 3333, as the application and as the client see it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from djsup_worker.request import Line
from djsup_worker.wsgi import HIGH_WATER_BYTES, Response, Wire, base_environ
from worker.harness import Answer, Site, client

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.conftest import MakeSite

DATE = b"Date: then\r\n"


class Paper(Wire):
    """A wire that keeps what is written on it, and may be slow."""

    def __init__(self, *, slow: bool = False) -> None:
        self.site = "shop"
        self.broken = False
        self.unsent = 0
        self.data = b""
        self._slow = slow

    def transmit(self, data: bytes) -> None:
        self.data += data
        if self._slow:
            self.unsent += len(data)


def respond(
    application: Any, *, method: str = "GET", version: str = "HTTP/1.1", wire: Paper | None = None
) -> Response:
    environ = base_environ("http", multithread=False, errors=io.StringIO())
    line = Line({}, method.encode() + b" /p", is_head=method == "HEAD", is_http_1_0=version == "HTTP/1.0")
    response = Response(wire or Paper(), environ, line, DATE, 0, None, keep=True)
    response.begin(application)
    return response


def sent(response: Response) -> bytes:
    data: bytes = response.wire.data  # type: ignore[attr-defined]
    return data


def start(status: str = "200 OK", *headers: tuple[str, str]) -> Callable[..., Any]:
    """An application that starts with these and returns what ``body`` holds."""

    def application(body: Any) -> Callable[..., Any]:
        def call(_environ: Any, start_response: Any) -> Any:
            start_response(status, list(headers))
            return body

        return call

    return application


def test_a_single_block_gets_its_length_and_goes_in_one_packet() -> None:
    response = respond(start("200 OK", ("A", "b"))([b"hello"]))
    assert sent(response) == b"HTTP/1.1 200 OK\r\nA: b\r\n" + DATE + b"Content-Length: 5\r\n\r\nhello"
    assert response.keep
    assert response.done


def test_several_blocks_are_chunked_and_empty_ones_are_not_sent() -> None:
    response = respond(start()(iter([b"", b"he", b"", b"llo"])))
    assert sent(response).endswith(b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
    assert response.keep


def test_http_1_0_gets_the_end_of_the_connection_for_the_end_of_the_body() -> None:
    response = respond(start()(iter([b"he", b"llo"])), version="HTTP/1.0")
    assert sent(response).endswith(b"Connection: close\r\n\r\nhello")
    assert not response.keep


def test_an_empty_reason_still_has_its_space() -> None:
    for status in ("299", "299 "):
        assert sent(respond(start(status)([b""]))).startswith(b"HTTP/1.1 299 \r\n")


def test_nothing_at_all_is_an_empty_body() -> None:
    for body in ([], [b""], iter([]), iter([b"", b""])):
        assert sent(respond(start()(body))).endswith(b"Content-Length: 0\r\n\r\n")


def test_head_has_the_headers_of_get_and_no_body() -> None:
    assert sent(respond(start()([b"hello"]), method="HEAD")).endswith(b"Content-Length: 5\r\n\r\n")
    streamed = respond(start("200 OK", ("Content-Length", "5"))(iter([b"he", b"llo"])), method="HEAD")
    assert sent(streamed).endswith(DATE + b"\r\n")
    assert streamed.keep


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body_have_none(status: str) -> None:
    response = respond(start(status)([b"hello"]))
    assert sent(response) == b"HTTP/1.1 " + status.encode() + b"\r\n" + DATE + b"\r\n"
    assert response.keep
    assert b"Content-Length" not in sent(respond(start("204 No Content", ("Content-Length", "0"))([])))


@pytest.mark.parametrize("body", [[], [b"hello"], iter([b"he", b"llo"])])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reset_content_says_that_it_is_empty(body: Any, method: str) -> None:
    for headers in ([], [("Content-Length", "0")]):
        response = respond(start("205 Reset Content", *headers)(body), method=method)
        assert sent(response).count(b"Content-Length: 0\r\n") == 1
        assert sent(response).endswith(b"\r\n\r\n")
        assert response.keep


def test_an_error_that_replaces_an_answer_without_body_has_its_body() -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        import sys  # noqa: PLC0415

        start_response("204 No Content", [])
        try:
            raise ValueError("broken")
        except ValueError:
            start_response("503 Sorry", [], sys.exc_info())
        return [b"sorry"]

    assert sent(respond(application)).endswith(b"Content-Length: 5\r\n\r\nsorry")


@pytest.mark.parametrize("body", [[b"hello!"], [b"he", b"llo!"], (each for each in [b"hello", b"!"])])
def test_never_more_bytes_than_promised(body: Any, capsys: pytest.CaptureFixture[str]) -> None:
    response = respond(start("200 OK", ("Content-Length", "5"))(body))
    assert sent(response).endswith(b"\r\n\r\nhello")
    assert not response.keep
    assert 'site "shop": GET /p: the response is longer' in capsys.readouterr().err


@pytest.mark.parametrize("body", [[b"hell"], [b"he", b"ll"], []])
def test_fewer_bytes_than_promised_close_the_connection(
    body: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    response = respond(start("200 OK", ("Content-Length", "5"))(body))
    assert not response.keep
    assert 'site "shop": GET /p: the response is ' in capsys.readouterr().err


def test_the_date_of_the_application_stands() -> None:
    assert sent(respond(start("200 OK", ("date", "mine"))([b""]))).lower().count(b"date:") == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK\r\nX: y", []),
        ("100 Continue", []),
        ("abc", []),
        (b"200 OK", []),
        ("200 OK", [("X", "a\r\nSet-Cookie: b")]),
        ("200 OK", [("X", "a\nb")]),
        ("200 OK", [("X", "a\rb")]),
        ("200 OK", [("X", "a\0b")]),
        ("200 OK", [("X\r\nY", "a")]),
        ("200 OK", [("X Y", "a")]),
        ("200 OK", [("", "a")]),
        ("200 OK", [("X", "\u20ac")]),
        ("200 OK", [("X", 1)]),
        ("200 OK", [("X", b"a")]),
        ("200 OK", [(b"X", "a")]),
        ("200 OK", [("Connection", "close")]),
        ("200 OK", [("transfer-encoding", "chunked")]),
        ("200 OK", [("Upgrade", "h2c")]),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "1_0")]),
        ("200 OK", [("Content-Length", "\xb2")]),
        ("205 Reset Content", [("Content-Length", "3")]),
        ("200 OK", [("Content-Length", "x")]),
        ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")]),
        ("200 OK", ["X: a"]),
        ("200 OK", None),
    ],
)
def test_what_may_not_be_sent_is_a_500_and_a_traceback(
    status: Any, headers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        start_response(status, headers)
        return [b"x"]

    for _ in range(2):
        response = respond(application)
        assert sent(response).startswith(b"HTTP/1.1 500 ")
        assert b"Set-Cookie" not in sent(response)
        assert not response.keep
        assert "Traceback" in capsys.readouterr().err


def test_an_application_that_raises_is_answered_500_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ValueError("broken"), SystemExit(3), KeyboardInterrupt()):

        def application(_environ: Any, _start_response: Any, error: BaseException = error) -> Any:
            raise error

        response = respond(application)
        assert sent(response).startswith(b"HTTP/1.1 500 ")
        assert response.status == 500
        said = capsys.readouterr().err
        assert 'site "shop": GET /p: Traceback' in said
        assert type(error).__name__ in said


def test_an_application_that_raises_after_its_head_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Any:
            yield b"he"
            raise ValueError("broken")

        def close(self) -> None:
            closed.append(True)

    response = respond(start()(Body()))
    assert sent(response).endswith(b"2\r\nhe\r\n"), "the last chunk is missing, so the client knows"
    assert not response.keep
    assert closed
    assert "ValueError: broken" in capsys.readouterr().err


def test_start_response_may_be_called_again_with_exc_info() -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        import sys  # noqa: PLC0415

        start_response("200 OK", [("A", "b")])
        try:
            raise ValueError("broken")
        except ValueError:
            start_response("503 Sorry", [], sys.exc_info())
        return [b"sorry"]

    assert sent(respond(application)).startswith(b"HTTP/1.1 503 Sorry\r\n" + DATE)


def test_start_response_with_exc_info_after_the_head_raises(capsys: pytest.CaptureFixture[str]) -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        import sys  # noqa: PLC0415

        write = start_response("200 OK", [])
        write(b"begun")
        try:
            raise ValueError("broken")
        except ValueError:
            start_response("503 Sorry", [], sys.exc_info())
        return [b"never"]

    response = respond(application)
    assert b"never" not in sent(response)
    assert "ValueError: broken" in capsys.readouterr().err


def test_start_response_twice_without_exc_info_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("201 Created", [])
        return []

    assert sent(respond(application)).startswith(b"HTTP/1.1 500 ")
    assert "called twice" in capsys.readouterr().err


def test_a_body_without_start_response_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert sent(respond(lambda _environ, _start: [b"x"])).startswith(b"HTTP/1.1 500 ")
    assert sent(respond(lambda _environ, _start: None)).startswith(b"HTTP/1.1 500 ")
    assert capsys.readouterr().err


def test_start_response_may_come_with_the_first_block() -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"late"

    assert b"late" in sent(respond(application))


def test_write_sends_before_the_iterable() -> None:
    def application(_environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Length", "6")])
        write(b"one")
        write(b"")
        return [b"two"]

    response = respond(application)
    assert sent(response).endswith(b"\r\n\r\nonetwo")
    assert response.keep


def test_text_in_a_body_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert sent(respond(start()(["text"]))).startswith(b"HTTP/1.1 500 ")
    assert "not bytes" in capsys.readouterr().err


def test_close_is_called_once_however_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    class Body:
        def __init__(self, *blocks: Any) -> None:
            self.blocks = blocks
            self.closed = 0

        def __iter__(self) -> Any:
            return iter(self.blocks)

        def close(self) -> None:
            self.closed += 1
            raise ValueError("in close")

    for body in (Body(b"x"), Body(), Body("text")):
        response = respond(start()(body))
        assert body.closed == 1
        assert response.done
        assert "in close" in capsys.readouterr().err
    good = Body(b"x")
    assert respond(start("200 OK", ("Content-Length", "1"))(good)).keep, "the client got all"
    gone = Body(b"x")
    wire = Paper()
    wire.broken = True
    assert respond(start()(gone), wire=wire).done
    assert gone.closed == 1


def test_a_response_pauses_while_its_client_does_not_read_and_goes_on() -> None:
    asked = []

    def blocks() -> Any:
        for number in range(10):
            asked.append(number)
            yield b"x" * (HIGH_WATER_BYTES // 2)

    wire = Paper(slow=True)
    response = respond(start()(blocks()), wire=wire)
    paused = not response.done
    assert paused
    assert len(asked) < 5
    while not response.done:
        wire.unsent = 0
        response.go_on()
    assert len(asked) == 10
    assert wire.data.count(b"x") == 10 * (HIGH_WATER_BYTES // 2)


def test_memory_of_header_lines_has_a_limit() -> None:
    from djsup_worker import wsgi  # noqa: PLC0415

    for number in range(3 * wsgi.KEPT_MAX):
        respond(start("200 OK", ("X", str(number)))([b""]))
        assert len(wsgi._lines) <= wsgi.KEPT_MAX


# --- with a real worker ---

VALIDATED = """
from wsgiref.validate import validator

@validator
def application(environ, start_response):
    body = environ["wsgi.input"].read(-1)
    status = "204 No Content" if environ["PATH_INFO"] == "/204" else "200 OK"
    headers = [] if status[0:3] == "204" else [("Content-Type", "text/plain")]
    if environ["PATH_INFO"] == "/write":
        start_response(status, headers)(b"written ")
    else:
        start_response(status, headers)
    return [] if status[0:3] == "204" else [body or b"none", b"."]
"""


@pytest.fixture
def validated(make_site: MakeSite) -> Site:
    site = make_site(VALIDATED.replace(".read(-1)", ".read(int(environ.get('CONTENT_LENGTH') or 0))"))
    site.start_worker()
    return site


def test_wsgiref_validate_finds_nothing_wrong(validated: Site) -> None:
    worker = validated.processes[0]
    with client(validated) as user:
        for path, method, body in (
            ("/", "GET", b""),
            ("/a%20b?c", "POST", b"hello"),
            ("/write", "GET", b""),
            ("/204", "GET", b""),
            ("/", "HEAD", b""),
            ("/", "PATCH", b"x"),
        ):
            user.send(
                b"%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
                % (method.encode(), path.encode(), len(body), body)
            )
            answer = user.answer(head_only=method == "HEAD")
            assert answer.status == (204 if path == "/204" else 200), worker.read()
        user.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
        assert user.answer().status == 200
    assert worker.read() == ""


FILES = """
import os
from urllib.parse import parse_qs

def application(environ, start_response):
    asked = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
    file = open(environ["PATH_INFO"], "rb")
    file.seek(int(asked.get("from", 0)))
    if "buffered" in asked:
        file.read(1)
    headers = [("Content-Length", asked["length"])] if "length" in asked else []
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](file, 8192)
"""


def test_files_are_sent_whole_and_in_part(make_site: MakeSite) -> None:
    site = make_site(FILES)
    worker = site.start_worker()
    content = bytes(range(256)) * 40_000
    path = site.directory / "big"
    path.write_bytes(content)
    with client(site) as user:
        answer = user.get(str(path))
        assert answer.body == content
        assert answer.header("Content-Length") == str(len(content))
        assert user.get(f"{path}?from=1000").body == content[1000:]
        assert user.get(f"{path}?from=1000&buffered=1").body == content[1001:]
        assert user.get(f"{path}?from=1000&length=17").body == content[1000:1017]
        assert user.get(str(path), method="HEAD").header("Content-Length") == str(len(content))
        assert user.get(str(path)).body == content
    assert worker.read() == ""


def test_what_is_no_regular_file_is_read(make_site: MakeSite) -> None:
    site = make_site(
        """
        import io

        def application(environ, start_response):
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](io.BytesIO(b"x" * 300000))
        """
    )
    site.start_worker()
    with client(site) as user:
        assert user.get().body == b"x" * 300_000


def test_a_slow_reader_holds_no_thread(make_site: MakeSite) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/long":
                return (b"%06d" % number * 10000 for number in range(1000))
            return [b"short"]
        """
    )
    site.start_worker()
    with client(site) as slow, client(site) as user:
        slow.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        slow.sock.recv(1)
        assert user.get().body == b"short"
        slow.buffer += b"H"
        answer: Answer = slow.answer()
        assert answer.body == b"".join(b"%06d" % number * 10000 for number in range(1000))


def test_a_client_that_does_not_read_is_given_up_and_close_is_called(make_site: MakeSite) -> None:
    site = make_site(
        """
        import sys

        class Body:
            def __iter__(self):
                while True:
                    yield b"x" * 100000

            def close(self):
                print("closed", file=sys.stderr)

        def application(environ, start_response):
            start_response("200 OK", [])
            return Body()
        """,
        limits={"write_timeout_s": 1.2},
    )
    worker = site.start_worker()
    with client(site) as user:
        user.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        worker.read(until=b"closed")
    site.wait_for(lambda row: row.connections == 0)


def test_what_is_printed_stays_the_sites(make_site: MakeSite) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            print("on standard output")
            environ["wsgi.errors"].write("on standard error\\n")
            start_response("200 OK", [])
            return []
        """
    )
    worker = site.start_worker()
    with client(site) as user:
        user.get()
    worker.read("stdout", until=b"on standard output\n")
    worker.read("stderr", until=b"on standard error\n")


def test_a_broken_worker_thread_is_not_left_behind_by_a_failing_request(make_site: MakeSite) -> None:
    site = make_site("def application(environ, start_response):\n    raise SystemExit(1)\n")
    worker = site.start_worker()
    for _ in range(3):
        with client(site) as user:
            assert user.get().status == 500
            assert user.closed()
    site.wait_for(lambda row: row.classes == (0, 0, 0, 0, 3))
    assert "SystemExit" in worker.read(until=b"SystemExit")


def test_pipelined_answers_of_every_kind_are_in_order(make_site: MakeSite) -> None:
    site = make_site(
        """
        def application(environ, start_response):
            path = environ["PATH_INFO"]
            start_response("204 No Content" if path == "/3" else "200 OK", [])
            if path == "/1":
                return iter([b"1", b"1"])
            return [] if path == "/3" else [path.encode()]
        """
    )
    site.start_worker()
    with client(site) as user:
        user.send(
            b"".join(
                b"%s /%d HTTP/1.1\r\nHost: a\r\n\r\n" % (b"HEAD" if number == 2 else b"GET", number)
                for number in range(5)
            )
        )
        bodies = [user.answer(head_only=number == 2).body for number in range(5)]
        assert bodies == [b"/0", b"11", b"", b"", b"/4"]
