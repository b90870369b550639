"""Rules of RFC 9110 and RFC 9112 for an origin server, one by one; docs/reference/http.md is the table of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from djsup_worker.body import TRAILERS_FORBIDDEN
from worker.inprocess import InProcess, Reading, byte_by_byte, in_process, whole

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs/reference/http.md"


@pytest.fixture(scope="module")
def worker() -> Iterator[InProcess]:
    with in_process() as made:
        yield made


def request(
    *fields: bytes, method: bytes = b"GET", target: bytes = b"/", version: bytes = b"HTTP/1.1"
) -> bytes:
    return b"\r\n".join([b"%b %b %b" % (method, target, version), *fields, b"", b""])


HOST = b"Host: a"
PLAIN = request(HOST)


def read(worker: InProcess, data: bytes) -> Reading:
    """What it is taken for, the same whole and byte by byte."""
    one, other = worker.read(whole(data)), worker.read(byte_by_byte(data))
    assert one.framing() == other.framing()
    return one


def head_and_rest(sent: bytes) -> tuple[bytes, bytes]:
    head, _, rest = sent.partition(b"\r\n\r\n")
    return head, rest


# --- methods and answers ---


@pytest.mark.parametrize(
    "data",
    [
        request(b"Host: a b", method=b"HEAD"),
        request(HOST, method=b"HEAD", version=b"HTTP/2.0"),
        request(HOST, b"Expect: x", method=b"HEAD"),
        request(HOST, b"Content-Length: 999999999999", method=b"HEAD"),
        request(HOST, b"Transfer-Encoding: chunked", method=b"HEAD") + b"x\r\n",
        b"HEAD /\n",
    ],
)
def test_a_refused_head_request_has_no_content_in_its_answer(worker: InProcess, data: bytes) -> None:
    for cut in (whole, byte_by_byte):
        reading = worker.read(cut(data))
        assert reading.refusal() >= 400
        assert head_and_rest(reading.sent)[1] == b""


def test_a_refused_get_request_is_told_why(worker: InProcess) -> None:
    assert b"malformed Host" in head_and_rest(worker.read(whole(request(b"Host: a b"))).sent)[1]


def test_every_answer_has_a_date(worker: InProcess) -> None:
    for data in (PLAIN, request(b"Host: a b")):
        assert (
            len(re.findall(rb"\r\nDate: [A-Z][a-z]{2}, [0-9]{2} .* GMT\r\n", worker.read([data]).sent)) == 1
        )


@pytest.mark.parametrize(
    ("method", "status"),
    [
        (b"get", 501),
        (b"Get", 501),
        (b"BREW", 501),
        (b"CONNECT", 501),
        (b"G(T", 400),
        (b"\xc9", 400),
        (b"A" * 33, 501),
    ],
)
def test_methods_are_case_sensitive_and_an_unknown_one_is_501(
    worker: InProcess, method: bytes, status: int
) -> None:
    assert read(worker, request(HOST, method=method)).refusal() == status


def test_options_for_the_server_is_told_apart_by_request_uri(worker: InProcess) -> None:
    (environ,) = read(worker, request(HOST, method=b"OPTIONS", target=b"*")).requests
    assert (environ["PATH_INFO"], environ["REQUEST_URI"]) == ("/", "*")
    assert read(worker, request(HOST, target=b"*")).refusal() == 400


def test_authority_form_is_for_connect_which_is_not_done(worker: InProcess) -> None:
    assert read(worker, request(HOST, method=b"CONNECT", target=b"a:443")).refusal() == 501
    assert read(worker, request(HOST, target=b"a:443")).refusal() == 400


def test_an_absolute_target_goes_before_host_and_its_scheme_is_not_believed(worker: InProcess) -> None:
    (environ,) = read(worker, request(b"Host: other", target=b"https://u:p@a:1/x?y")).requests
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("a:1", "/x", "y")
    assert environ["wsgi.url_scheme"] == "http"
    for target in (b"http://", b"http:///x", b"http://u@/", b"http://a b/", b"http://a:x/", b"ftp://a/"):
        assert read(worker, request(HOST, target=target)).refusal() == 400


# --- versions ---


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/2.0", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/3.0", 505),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET /", 400),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/01.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTPS/1.1", 400),
    ],
)
def test_other_versions_are_refused(worker: InProcess, line: bytes, status: int) -> None:
    assert read(worker, line + b"\r\nHost: a\r\n\r\n").refusal() == status


def test_an_answer_to_http_1_0_is_of_the_servers_version_and_never_chunked(worker: InProcess) -> None:
    sent = worker.read(whole(request(version=b"HTTP/1.0"))).sent
    assert sent.startswith(b"HTTP/1.1 200 ")
    assert b"Transfer-Encoding" not in sent


# --- persistence ---


@pytest.mark.parametrize(
    ("version", "options", "served"),
    [
        (b"HTTP/1.1", b"", 2),
        (b"HTTP/1.1", b"close", 1),
        (b"HTTP/1.1", b"CLOSE", 1),
        (b"HTTP/1.1", b"keep-alive, close", 1),
        (b"HTTP/1.1", b"x , close", 1),
        (b"HTTP/1.1", b"closed", 2),
        (b"HTTP/1.0", b"", 1),
        (b"HTTP/1.0", b"keep-alive", 2),
        (b"HTTP/1.0", b"Keep-Alive, close", 1),
    ],
)
def test_a_connection_persists_as_version_and_options_say(
    worker: InProcess, version: bytes, options: bytes, served: int
) -> None:
    data = request(HOST, b"Connection: " + options, version=version) + PLAIN
    reading = read(worker, data)
    assert len(reading.requests) == served
    assert (b"Connection: close" in reading.sent) is (served == 1)


def test_pipelined_requests_are_answered_in_order(worker: InProcess) -> None:
    reading = read(worker, b"".join(request(HOST, target=b"/%d" % number) for number in range(20)))
    assert [each["PATH_INFO"] for each in reading.requests] == [f"/{number}" for number in range(20)]
    assert reading.sent.count(b"HTTP/1.1 200 OK") == 20


def test_an_upgrade_is_ignored(worker: InProcess) -> None:
    data = request(HOST, b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    reading = read(worker, data + PLAIN)
    assert len(reading.requests) == 2
    assert b" 101 " not in reading.sent


# --- lines and fields ---


@pytest.mark.parametrize("count", [1, 2, 3, 2000])
def test_empty_lines_before_a_request_are_ignored(worker: InProcess, count: int) -> None:
    data = b"\r\n" * count + PLAIN + b"\r\n" * count + PLAIN
    assert len(worker.read(whole(data)).requests) == 2
    assert len(read(worker, b"\r\n" * min(count, 9) + PLAIN).requests) == 1


def test_half_an_empty_line_is_no_request_that_arrives_slowly(worker: InProcess) -> None:
    ours, current = worker.connect()
    with ours:
        ours.send(PLAIN + b"\r")
        worker.turn()
        connection = current()
        assert connection is not None
        ours.recv(1000)
        connection.expire()
        ours.setblocking(True)
        assert ours.recv(1) == b"", "closed as an idle one is, not refused with 408"


@pytest.mark.parametrize(
    "field",
    [
        b"X : y", b"X\t: y", b" X: y", b"\tX: y", b": y", b"X", b"X y: z", b"X\x00: y", b"X: y\x00", b"X: y\rz", b"X: y\nz",
        b"X: y\x0bz", b"X: y\x0cz", b"X: y\x01", b"X: y\x7f", b"X: y\r\n z", b"X\xe9: y", b"X(: y", b"X: y\r", b"X: y\n",
    ],
)  # fmt: skip
def test_a_malformed_field_is_refused(worker: InProcess, field: bytes) -> None:
    assert read(worker, request(HOST, field) + PLAIN).refusal() == 400
    assert read(worker, request(field, HOST) + PLAIN).refusal() == 400


def test_field_values_lose_white_space_around_them_and_keep_other_bytes(worker: InProcess) -> None:
    (environ,) = read(worker, request(HOST, b"X: \t a\tb \xe9 \t", b"Y:", b"Z:z")).requests
    assert (environ["HTTP_X"], environ["HTTP_Y"], environ["HTTP_Z"]) == ("a\tb \xe9", "", "z")


def test_repeated_fields_are_one_list_in_order(worker: InProcess) -> None:
    (environ,) = read(worker, request(HOST, b"X: 1", b"Y: a", b"x: 2", b"Cookie: c", b"Cookie: d")).requests
    assert (environ["HTTP_X"], environ["HTTP_COOKIE"]) == ("1,2", "c; d")


def test_an_underscore_never_stands_for_a_hyphen(worker: InProcess) -> None:
    fields = (b"X_A: 1", b"X-A: 2", b"X_A: 3", b"Content_Length: 9", b"Transfer_Encoding: chunked", b"Y_Z: 4")
    (environ,) = read(worker, request(HOST, *fields)).requests
    assert environ["HTTP_X_A"] == "2"
    assert not {"HTTP_Y_Z", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"} & set(environ)


def test_sizes_have_limits_of_their_own(worker: InProcess) -> None:
    assert worker.read(whole(request(HOST, target=b"/" + b"a" * 8300))).refusal() == 414
    assert worker.read([b"GET /" + b"a" * 4000, b"a" * 4000, b"a" * 4000]).refusal() == 414
    assert worker.read(whole(request(HOST, b"X: " + b"a" * 8300))).refusal() == 431
    assert worker.read(whole(request(HOST, *[b"X: y"] * 101))).refusal() == 431
    assert worker.read([request(HOST)[:-2], *[b"X: " + b"a" * 8000 + b"\r\n"] * 5]).refusal() == 431
    assert worker.read(whole(request(HOST, b"Content-Length: 999999999999"))).refusal() == 413


# --- Host ---


@pytest.mark.parametrize("host", [b"", b"a", b"a:80", b"a:", b"127.0.0.1:1", b"[::1]", b"[::1]:1", b"a_b.c"])
def test_a_host_of_the_grammar_is_taken(worker: InProcess, host: bytes) -> None:
    (environ,) = read(worker, request(b"Host: " + host)).requests
    assert environ["HTTP_HOST"] == host.decode()


@pytest.mark.parametrize(
    "host", [b"a b", b"u@a", b"a/b", b"a,b", b"a:b", b"a:80:80", b"[::1", b"a\\b", b"a?b", b"http://a", b"a#b", b"a:999999"]
)  # fmt: skip
def test_another_host_is_refused(worker: InProcess, host: bytes) -> None:
    refused = read(worker, request(b"Host: " + host)).refusal()
    assert refused == (0 if host == b"a,b" else 400), "a comma is a sub-delim of RFC 3986's reg-name"


def test_two_hosts_are_refused_though_they_are_equal(worker: InProcess) -> None:
    assert read(worker, request(HOST, HOST)).refusal() == 400


def test_a_request_without_host_is_served(worker: InProcess) -> None:
    (environ,) = read(worker, request()).requests
    assert "HTTP_HOST" not in environ
    assert environ["SERVER_NAME"] == "198.51.100.1"


# --- Expect ---


def test_100_is_sent_to_who_waits_for_it_and_to_nobody_else(worker: InProcess) -> None:
    fields = (HOST, b"Expect: 100-continue", b"Content-Length: 2")
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert worker.read([request(*fields), b"hi"]).sent.startswith(interim + b"HTTP/1.1 200 ")
    assert interim not in worker.read([request(*fields) + b"hi"]).sent, "it did not wait"
    assert interim not in worker.read([request(*fields, version=b"HTTP/1.0"), b"hi"]).sent
    assert interim not in worker.read([request(HOST, b"Expect: 100-continue")]).sent, "there is no body"
    refused = worker.read([request(HOST, b"Expect: 100-continue", b"Content-Length: 999999999999")])
    assert refused.sent.startswith(b"HTTP/1.1 413 ")


def test_another_expectation_is_refused(worker: InProcess) -> None:
    assert read(worker, request(HOST, b"Expect: 200-ok")).refusal() == 417


# --- bodies ---


def test_a_body_without_length_or_coding_is_the_next_request(worker: InProcess) -> None:
    reading = read(worker, request(HOST, method=b"POST") + PLAIN)
    assert reading.framing() == [("POST", "/", b""), ("GET", "/", b"")]


@pytest.mark.parametrize("name", sorted(TRAILERS_FORBIDDEN))
def test_a_trailer_that_only_a_header_may_be_is_refused(worker: InProcess, name: bytes) -> None:
    data = request(HOST, b"Transfer-Encoding: chunked", method=b"POST")
    assert worker.read(whole(data + b"0\r\n" + name.title() + b": x\r\n\r\n")).refusal() == 400


def test_other_trailers_are_dropped(worker: InProcess) -> None:
    data = request(HOST, b"Transfer-Encoding: chunked", b"Trailer: X-Sum", method=b"POST")
    (environ,) = read(worker, data + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n").requests
    assert "HTTP_X_SUM" not in environ
    assert (environ["CONTENT_LENGTH"], environ["body"]) == ("2", b"hi")


def test_a_message_that_ends_too_early_is_not_served(worker: InProcess) -> None:
    for data in (
        PLAIN[:-1],
        request(HOST, b"Content-Length: 5") + b"hell",
        request(HOST, b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n",
    ):
        reading = read(worker, data)
        assert (reading.requests, reading.sent) == ([], b"")


# --- the table ---


def test_every_rule_of_the_table_names_a_test_that_exists() -> None:
    rows = [line for line in TABLE.read_text().splitlines() if re.match(r"\| .*\| RFC 9\d\d\d", line)]
    assert len(rows) > 60
    sources = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", cells[3])
        assert named, f"no test: {row}"
        for file, name in named:
            assert f"def {name}(" in sources[file], f"{file} has no {name}"
