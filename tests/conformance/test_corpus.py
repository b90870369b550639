"""The corpus of whole client connections, against a real worker: written at once, and one byte at a time."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker import harness
from worker.applications import ECHO
from worker.harness import Answer, Client, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORPUS = Path(__file__).parent / "corpus"
Request = tuple[str, str, str, str]
"""Method, path, query and body, as the application must see them."""

ACCEPTED: dict[str, list[Request] | int] = {
    # Either what the application is called with, or the status of the worker's own answer.
    "001": [("PUT", "/stuff/here", "foo=bar", '{"nom": "nom"}')],
    "003": [("GET", "/favicon.ico", "", "")],
    "005": [("GET", "/forums/1/topics/2375", "page=1", "")],
    "007": [("GET", "/get_one_header_no_body", "", "")],
    "009": 501,
    "011": [("POST", "/two_chunks_mult_zero_end", "", "hello world")],
    "013": [("POST", "/chunked_w_extensions", "", "hello world")],
    "015": [("GET", "/test", "", "")],
    "018": [("GET", "/first", "", ""), ("GET", "/second", "", "")],
    "020": [("GET", "/first", "", "GET /second HTTP/1.1\r\n\r\n")],
    "022": [("GET", "/first", "", ""), ("GET", "/second", "", "")],
    "025": 501,
    "027": [("GET", "/\xc3\xa0 k", "", "")],
    "040": [("GET", "/keep/same/as", "invalid/040", "tricked")],
    "100": [("GET", "///keeping_slashes", "", "")],
    "rfc9110_body_framing_get_cl_nonzero_01": [("GET", "/foo", "", "hello")],
    "rfc9110_body_framing_http10_cl_01": [("POST", "/foo", "", "hello")],
    "rfc9110_field_value_htab_trim_01": [("GET", "/foo", "", "")],
    "rfc9112_chunked_ext_quoted_01": [("POST", "/upload", "", "hello")],
    "rfc9112_chunked_size_uppercase_hex_01": [("POST", "/upload", "", "0123456789")],
    "rfc9112_smuggle_te_identity_chunked_01": 501,
    "rfc9112_target_absolute_https_01": [("GET", "/foo", "", "")],
    "rfc9112_target_absolute_userinfo_01": [("GET", "/foo", "q=1", "")],
    "rfc9112_target_authority_connect_01": 501,
}
REFUSED = {
    # The status of the answer; None: never whole, so there is none.
    "001": None, "003": 400, "003c": 501, "005": 400, "007": 431, "009": 431, "015": 400, "018": 400,
    "chunked_02": 400, "chunked_04": 400, "chunked_06": 400, "chunked_09": 400, "chunked_11": 400,
    "chunked_13": 400, "obs_fold_01": 400, "prefix_02": 400, "rfc9110_field_value_ctl_del_01": 400,
    "rfc9110_trailer_forbidden_host_01": 400, "rfc9112_chunked_missing_final_crlf_01": None,
    "rfc9112_chunked_size_plus_sign_01": 400, "rfc9112_smuggle_cl_te_chunked_01": 400,
    "rfc9112_target_authority_non_connect_01": 400, "version_01": 400,
}  # fmt: skip


def whole(client: Client, data: bytes) -> None:
    client.send(data)


def byte_by_byte(client: Client, data: bytes) -> None:
    for at in range(len(data)):
        try:
            client.send(data[at : at + 1])
        except ConnectionError:  # refused before the end
            return
        if at < 400 and at % 8 == 0:
            time.sleep(0.0002)  # lets the worker read pieces, not the whole again


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    (directory / "app.py").write_text(ECHO)
    folder = harness.lay_out(tmp_path_factory.mktemp("runtime") / "worker", harness.own_httptools())
    site = Site(folder, directory, sys.executable)
    site.start_worker()
    yield site
    site.close()


def answers_until_closed(client: Client) -> list[Answer]:
    """Every answer that comes when the client has nothing more to say."""
    with contextlib.suppress(OSError):  # the server was faster
        client.sock.shutdown(socket.SHUT_WR)
    client.buffer += client.rest()
    found = []
    while client.buffer:
        found.append(client.answer())
    return found


@pytest.mark.parametrize("write", [whole, byte_by_byte])
@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_what_must_be_accepted_reaches_the_application_as_it_is(
    site: Site, name: str, write: Callable[[Client, bytes], None]
) -> None:
    data = (CORPUS / "accept" / f"{name}.raw").read_bytes()
    expected = ACCEPTED[name]
    with site.connect() as sock:
        client = Client(sock)
        write(client, data)
        found = answers_until_closed(client)
    if isinstance(expected, int):
        assert [answer.status for answer in found] == [expected]
        assert found[0].header("X-Application") is None
        return
    assert [answer.status for answer in found] == [200] * len(expected)
    seen = [json.loads(answer.body) for answer in found]
    assert [(each["method"], each["path"], each["query"], each["body"]) for each in seen] == expected


@pytest.mark.parametrize("write", [whole, byte_by_byte])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_must_be_refused_never_reaches_the_application(
    site: Site, name: str, write: Callable[[Client, bytes], None]
) -> None:
    data = (CORPUS / "refuse" / f"{name}.raw").read_bytes()
    expected = REFUSED[name]
    with site.connect() as sock:
        client = Client(sock)
        write(client, data)
        found = answers_until_closed(client)
    assert all(answer.header("X-Application") is None for answer in found)
    if expected is None:
        assert found == []
    else:
        assert [answer.status for answer in found] == [expected]
        assert found[0].header("Connection") == "close"


def test_the_whole_corpus_is_tried() -> None:
    assert {path.stem for path in (CORPUS / "accept").iterdir()} == set(ACCEPTED)
    assert {path.stem for path in (CORPUS / "refuse").iterdir()} == set(REFUSED)
