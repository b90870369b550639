from __future__ import annotations

import json
import os
import re
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djsup.config.access_format import COMBINED, LETTERS, TIMES, UNITS, parse
from djsup_worker.access_format import Format, Refusal, json_format, json_quoted, quoted, text_format
from djsup_worker.request import HeadReader

BASE = {"wsgi.url_scheme": "http", "SERVER_PORT": "8001", "REMOTE_ADDR": ""}
HEAD = b"GET /a%20b/?q=1 HTTP/1.1\r\nHost: blog.example\r\nReferer: https://x.example/\r\nUser-Agent: Lynx\r\n\r\n"


def entry(data: bytes = HEAD, *, broken: bool = False, keep: bool = True, **environ: Any) -> Any:
    """A response as the format sees it, of a request that took 1.234567 seconds."""
    made, line, fields = HeadReader().read(data, dict(BASE))
    began_ns = time.monotonic_ns()
    return SimpleNamespace(
        wire=SimpleNamespace(broken=broken, base=BASE, peer_host="127.0.0.1"),
        line=line, environ={**made, **environ}, noted=(fields, "192.0.2.7", "https", "abc-1"),
        status=200, sent=1234, head_bytes=200, began_ns=began_ns, ended_ns=began_ns + 1_234_567_890, keep=keep,
    )  # fmt: skip


def line(text: str, seen: Any = None) -> str:
    rendered = text_format(parse(text), "blog").render(seen or entry())
    assert rendered.endswith("\n")
    return rendered[:-1]


def test_combined_is_what_log_readers_expect() -> None:
    assert re.fullmatch(
        r'192\.0\.2\.7 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /a%20b/\?q=1 HTTP/1\.1" 200 1034 '
        r'"https://x\.example/" "Lynx"',
        line(COMBINED),
    )


@pytest.mark.parametrize(
    ("directive", "text"),
    [
        ("%a", "192.0.2.7"), ("%h", "192.0.2.7"), ("%l", "-"), ("%u", "-"), ("%r", "GET /a%20b/?q=1 HTTP/1.1"),
        ("%m", "GET"), ("%U", "/a%20b/"), ("%q", "?q=1"), ("%H", "HTTP/1.1"), ("%s", "200"), ("%>s", "200"),
        ("%b", "1034"), ("%B", "1034"), ("%O", "1234"), ("%D", "1234567"), ("%T", "1"), ("%{s}T", "1"),
        ("%{ms}T", "1234"), ("%{us}T", "1234567"), ("%p", "8001"), ("%v", "blog"), ("%X", "+"), ("%L", "abc-1"),
        ("%{Host}i", "blog.example"), ("%{user-agent}i", "Lynx"), ("%{X-None}i", "-"), ("%{wsgi.url_scheme}e", "http"),
        ("100%% %m", "100% GET"),
    ],
)  # fmt: skip
def test_directive_gives_what_the_reference_says(directive: str, text: str) -> None:
    assert line(directive) == text


def test_pid_is_the_workers() -> None:
    assert line("%P") == str(os.getpid())


def test_every_directive_that_may_be_configured_is_known_here() -> None:
    known = [f"%{each}" for each in LETTERS] + [f"%{{{each}}}t" for each in TIMES]
    known += [f"%{{{each}}}T" for each in UNITS]
    seen = entry(REMOTE_USER="eve")
    nothing = [each for each in known if line(each, seen) == "-"]
    assert nothing == ["%l"]


def test_times_are_of_now_and_of_this_zone() -> None:
    at = time.time()
    iso, sec, msec, usec = line("%{iso}t %{sec}t %{msec}t %{usec}t").split()
    assert time.strptime(iso, "%Y-%m-%dT%H:%M:%SZ")
    for said, unit in ((sec, 1), (msec, 1e3), (usec, 1e6)):
        assert abs(int(said) / unit - at) < 30


def test_time_goes_on_with_the_requests() -> None:
    compiled = text_format(parse("%{sec}t"), "blog")
    seen = entry()
    first = int(compiled.render(seen))
    seen.ended_ns += 7_000_000_000
    compiled._clock.until_ns = 0
    assert abs(int(compiled.render(seen)) - first) <= 1  # the clock on the wall says it, not the request


def test_no_answer_body_is_a_hyphen_as_apache_has_it() -> None:
    seen = entry()
    seen.head_bytes = seen.sent
    assert line("%b %B", seen) == "- 0"


def test_aborted_request_is_marked() -> None:
    assert line("%s %X", entry(broken=True)) == "499 X"
    assert line("%X", entry(keep=False)) == "-"
    assert json.loads(json_format("blog").render(entry(broken=True)))["aborted"] is True


def test_user_is_what_the_application_says() -> None:
    assert line("%u", entry(REMOTE_USER="eve")) == "eve"
    assert line("%u", entry(REMOTE_USER=None)) == "-"
    assert line("%u", entry(REMOTE_USER="Zoë ☃")) == "Zo\\xeb \\xe2\\x98\\x83"


def test_application_cannot_change_what_was_asked() -> None:
    seen = entry(HTTP_USER_AGENT="forged", REMOTE_ADDR="10.0.0.1", REQUEST_METHOD="PUT", RAW_URI="/other")
    assert line("%h %m %U %{User-Agent}i", seen) == "192.0.2.7 GET /a%20b/ Lynx"


def test_host_of_an_absolute_target_goes_before_the_header() -> None:
    seen = entry(b"GET http://real.example/x HTTP/1.1\r\nHost: other\r\n\r\n")
    assert line("%{Host}i %r", seen) == "real.example GET http://real.example/x HTTP/1.1"


# --- nothing that a client sends leaves its place -----------------------------------------------


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ('"', '\\"'), ("\\", "\\\\"), ("\0", "\\x00"), ("\x1b[2J", "\\x1b[2J"),
        ("\x7f", "\\x7f"), ("\x85", "\\x85"), ("\xa0", "\\xa0"), ("\xe4", "\\xe4"), ("\u2028", "\\xe2\\x80\\xa8"),
        ("\udc80", "\\xed\\xb2\\x80"), ("%s %d", "%s %d"), ("", "-"),
    ],
)  # fmt: skip
def test_character_is_escaped(sent: str, written: str) -> None:
    assert quoted(sent) == written


def unescape(text: str) -> bytes:
    def one(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if code[0] == "x" else {"n": "\n", "r": "\r", "t": "\t"}.get(code, code)

    return re.sub(r"\\(x..|.)", one, text).encode("latin-1")


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_stay_in_their_quotes_and_can_be_read_back(data: bytes) -> None:
    text = quoted(data.decode("latin-1"))
    assert text.isascii()
    assert text.isprintable()
    assert re.fullmatch(r'(?:[^"\\]|\\.)*', text)
    assert unescape(text) == data


@given(st.binary(max_size=300))
def test_any_bytes_are_right_json(data: bytes) -> None:
    text = json_quoted(data.decode("latin-1"))
    assert text.isascii()
    assert "\n" not in text
    read = json.loads(text)
    if data:
        assert read == data.decode("utf-8", "backslashreplace")
    else:
        assert read is None


@given(st.text(max_size=100))
def test_any_text_of_the_application_is_right_json_and_utf_8(text: str) -> None:
    (json.loads(json_quoted(text)) or "").encode()


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_refused_bytes_make_one_line(data: bytes, more: bytes) -> None:
    connection: Any = SimpleNamespace(broken=False, base=BASE, peer_host="::1", since_ns=0)
    refusal = Refusal(connection, 400, None, data + b"\r\n" + more)
    refusal.ended_ns = 1_000_000
    compiled: Format
    for compiled in (text_format(parse(COMBINED + " %m %U %q %H"), "blog"), json_format("blog")):
        rendered = compiled.render(refusal)
        assert rendered.count("\n") == 1
        assert rendered[:-1].isprintable()
    assert json.loads(rendered)["status"] == 400


def test_text_without_end_is_cut() -> None:
    assert len(quoted("x" * 100_000)) == len(json_quoted("x" * 100_000)) - 2 == 8192


def test_json_says_everything() -> None:
    found = json.loads(json_format("blog").render(entry()))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "site": "blog", "pid": os.getpid(), "request_id": "abc-1", "remote_addr": "192.0.2.7", "user": None,
        "scheme": "https", "host": "blog.example", "method": "GET", "target": "/a%20b/?q=1", "protocol": "HTTP/1.1",
        "status": 200, "aborted": False, "body_bytes": 1034, "total_bytes": 1234, "duration_us": 1234567,
        "referer": "https://x.example/", "user_agent": "Lynx",
    }  # fmt: skip
