from __future__ import annotations

from typing import Any

import pytest

from djsup_worker.forwarding import Networks, believe
from djsup_worker.refusal import Refused

OURS = Networks(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])


def said(**fields: str) -> dict[str, Any]:
    """What is believed of these fields; ``x_for`` is X-Forwarded-For, and so on."""
    environ = {
        "HTTP_" + name.upper().replace("X_", "X_FORWARDED_", 1): value for name, value in fields.items()
    }
    return believe(environ, OURS) or {}


def client(**fields: str) -> tuple[str, str] | None:
    found = said(**fields)
    return (found["REMOTE_ADDR"], found["REMOTE_PORT"]) if "REMOTE_ADDR" in found else None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("9.9.9.9", "9.9.9.9"),
        ("9.9.9.9, 10.0.0.2", "9.9.9.9"),
        ("1.1.1.1, 9.9.9.9,10.0.0.2 ,  10.0.0.3", "9.9.9.9"),
        ("10.0.0.9", "10.0.0.9"),
        ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("9.9.9.9, fd00::1", "9.9.9.9"),
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("9.9.9.9, ::ffff:10.0.0.2", "9.9.9.9"),
        ("127.0.0.1, 9.9.9.9", "9.9.9.9"),
        ("unknown, 10.0.0.2", "10.0.0.2"),
        ("9.9.9.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("<script>, 9.9.9.9", "9.9.9.9"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_trusted(value: str, expected: str) -> None:
    assert client(x_for=value) == (expected, "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("9.9.9.9:81", ("9.9.9.9", "81")), ("[2001:db8::1]:81", ("2001:db8::1", "81")), ("[::2]", ("::2", ""))],
)
def test_an_address_may_have_brackets_and_a_port(value: str, expected: tuple[str, str]) -> None:
    assert client(x_for=value) == expected


@pytest.mark.parametrize(
    "value", ["unknown", "", ",", "evil", "9.9.9", "9.9.9.9.9", "::1::", "fe80::1%eth0", "9.9.9.9:port"]
)
def test_what_is_no_address_makes_nobody_the_client(value: str) -> None:
    assert client(x_for=value) is None


def test_what_the_client_said_of_itself_is_cut_off() -> None:
    assert said(x_for="127.0.0.1, evil, 9.9.9.9, 10.0.0.2")["HTTP_X_FORWARDED_FOR"] == "9.9.9.9, 10.0.0.2"
    assert (
        said(forwarded='for=127.0.0.1, for="[2001:db8::1]", for=10.0.0.2')["HTTP_X_FORWARDED_FOR"]
        == "2001:db8::1, 10.0.0.2"
    )


@pytest.mark.parametrize(
    ("value", "scheme", "https"),
    [
        ("https", "https", "on"),
        ("HTTP", "http", "off"),
        ("wss", "https", "on"),
        ("ws", "http", "off"),
        ("https, https", "https", "on"),
    ],
)
def test_the_scheme_is_what_the_proxy_says(value: str, scheme: str, https: str) -> None:
    found = said(x_proto=value)
    assert (found["wsgi.url_scheme"], found["HTTPS"]) == (scheme, https)
    assert found["HTTP_X_FORWARDED_PROTO"] == scheme


def test_the_port_is_what_the_proxy_says() -> None:
    assert said(x_port="443")["SERVER_PORT"] == "443"


def test_the_host_is_passed_on_and_does_not_replace_host() -> None:
    for found in (said(x_host="a.example:81"), said(forwarded='host="a.example:81"')):
        assert found == {"HTTP_X_FORWARDED_HOST": "a.example:81"}


@pytest.mark.parametrize(
    "fields",
    [
        {"x_proto": "ftp"},
        {"x_proto": "https,http"},
        {"x_host": "a/b"},
        {"x_host": "user@a"},
        {"x_host": "a,b"},
        {"x_port": "0"},
        {"x_port": "65536"},
        {"x_port": "\xb2"},
        {"x_port": "80, 81"},
    ],
)
def test_what_is_malformed_or_contradicts_itself_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        said(**fields)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=9.9.9.9", ("9.9.9.9", "")),
        ('For="9.9.9.9:81";by=_x;proto=https', ("9.9.9.9", "81")),
        ('for="[2001:db8::1]:81"', ("2001:db8::1", "81")),
        ('for="[2001:db8::1]:_hidden"', ("2001:db8::1", "")),
        ("for=1.1.1.1, for=9.9.9.9;proto=http, for=10.0.0.2", ("9.9.9.9", "")),
        ("for=_hidden, for=10.0.0.2", ("10.0.0.2", "")),
        ("for=evil;proto=ftp, for=9.9.9.9", ("9.9.9.9", "")),
        ("for=unknown", None),
        ("proto=https", None),
        ("by=10.0.0.1, for=10.0.0.2", ("10.0.0.2", "")),
        (", ,for=9.9.9.9;; ,", ("9.9.9.9", "")),
        ('for="9.9.9\\.9" ; proto=http', ("9.9.9.9", "")),
        ("", None),
    ],
)
def test_forwarded_is_read_as_its_rfc_has_it(value: str, expected: tuple[str, str] | None) -> None:
    assert client(forwarded=value) == expected


def test_the_outermost_proxy_that_is_believed_knows_scheme_and_host() -> None:
    found = said(
        forwarded="for=1.1.1.1;proto=http;host=evil, for=9.9.9.9;proto=https;host=a, for=10.0.0.2;proto=http"
    )
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("9.9.9.9", "https")
    assert found["HTTP_X_FORWARDED_HOST"] == "a"


@pytest.mark.parametrize(
    "value",
    [
        "for", "for=", "=9.9.9.9", "for =9.9.9.9", "for= 9.9.9.9", "for=9.9.9.9 by=_x", "for=9.9.9.9;for=9.9.9.9",
        "for=9.9.9.9:81", "for=[::1]", 'for="::1"', 'for="[9.9.9.9]"', 'for="9.9.9.9', 'for="9.9.9.9"x',
        'for="unterminated, for=9.9.9.9', "for=evil", "for=999.9.9.9", 'for="9.9.9.9:123456"', "proto=ftp", 'host="a/b"',
        'host="a b"', "for=9.9.9.9;\x00", 'for="\\',
    ],
)  # fmt: skip
def test_forwarded_that_is_malformed_is_refused(value: str) -> None:
    with pytest.raises(Refused) as caught:
        said(forwarded=value)
    assert caught.value.status == 400


def test_both_families_may_not_contradict_each_other() -> None:
    for fields in (
        {"x_for": "9.9.9.9", "forwarded": "for=1.1.1.1"},
        {"x_proto": "https", "forwarded": "proto=http"},
        {"x_host": "a", "forwarded": "host=b"},
    ):
        with pytest.raises(Refused):
            said(**fields)


def test_where_both_families_are_there_forwarded_adds_nothing() -> None:
    found = said(x_for="9.9.9.9", forwarded="for=9.9.9.9;proto=https;host=evil")
    assert found == {"REMOTE_ADDR": "9.9.9.9", "REMOTE_PORT": "", "HTTP_X_FORWARDED_FOR": "9.9.9.9"}


def test_forwarded_itself_is_not_passed_on() -> None:
    environ = {"HTTP_FORWARDED": "for=9.9.9.9", "HTTP_HOST": "a"}
    assert believe(environ, OURS)
    assert environ == {"HTTP_HOST": "a"}


def test_nothing_said_is_nothing_believed() -> None:
    assert believe({"HTTP_HOST": "a"}, OURS) is None


def test_a_peer_on_a_unix_socket_is_trusted_by_its_own_word() -> None:
    assert Networks(["unix"]).hold("")
    assert not OURS.hold("")
    assert not Networks(["unix"]).hold("127.0.0.1")


def test_an_address_of_a_link_is_judged_without_its_link() -> None:
    assert Networks(["fe80::/10"]).hold("fe80::1%eth0")
    assert not Networks(["fe80::/10"]).hold("no address")
