"""Static and media files over real connections."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from djsup_worker.files import FileWrapper
from djsup_worker.messages import Loaded, LoadFailed
from djsup_worker.static import Slice
from worker import harness
from worker.conftest import MakeSite
from worker.harness import Client, Process, Site, client

APPLICATION = """
import json
import sys

def application(environ, start_response):
    try:
        import whitenoise
        found = whitenoise.__file__
    except ImportError:
        found = None
    seen = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "whitenoise": found,
        "names": [name for name in sys.modules if name.startswith("whitenoise")],
        "import path": sys.path,
    }
    start_response("404 Not Found", [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()]
"""
BIG_BYTES = 3_000_000
LARGE_BYTES = 32 * 1024 * 1024
"""More than the kernel buffers for a client that does not read."""
HUGE_BYTES = 256 * 1024 * 1024
GROWTH_MAX_BYTES = 16 * 1024 * 1024


@pytest.fixture
def public(tmp_path: Path) -> Path:
    public = tmp_path / "public"
    public.mkdir()
    (public / "a.css").write_bytes(b"body {}" * 100)
    (public / "a.css.gz").write_bytes(gzip.compress(b"body {}" * 100))
    (public / "empty.txt").touch()
    (public / "big").write_bytes(os.urandom(BIG_BYTES))
    return public


@pytest.fixture
def site(make_site: MakeSite, public: Path) -> Site:
    return make_site(
        APPLICATION,
        static={
            "/static/": {"path": str(public), "changes": False},
            "/media/": {"path": str(public / "media"), "changes": True},
        },
    )


@pytest.fixture
def worker(site: Site) -> Process:
    return site.start_worker()


@pytest.fixture
def user(site: Site, worker: Process) -> Iterator[Client]:
    with client(site) as user:
        yield user


def test_a_file_is_answered_before_the_application(user: Client, public: Path) -> None:
    answer = user.get("/static/a.css")
    assert (answer.status, answer.body) == (200, (public / "a.css").read_bytes())
    assert answer.header("Content-Type") == 'text/css; charset="utf-8"'
    assert answer.header("Content-Length") == "700"
    assert answer.header("Cache-Control") == "max-age=60, public"
    assert answer.header("Accept-Ranges") == "bytes"
    modified = (public / "a.css").stat().st_mtime
    assert answer.header("Last-Modified") == formatdate(modified, usegmt=True)


@pytest.mark.parametrize("path", ["/static/missing", "/static/", "/static", "/other", "/static/../app.py"])
def test_what_is_no_file_is_the_applications(user: Client, path: str) -> None:
    answer = user.get(path)
    assert answer.status == 404
    assert json.loads(answer.body)["path"] == path


@pytest.mark.parametrize(
    "target",
    [
        "/static/../secret", "/static/%2e%2e/secret", "/static/%2e%2e%2fsecret", "/static/%252e%252e/secret",
        "/static/..%5csecret", "/static/..\\secret", "/static/%c0%ae%c0%ae/secret", "/static//../secret",
        "/static/%00/../../secret", "/static/.env", "/static/out", "/static/../public/../secret",
        "http://localhost/static/../secret", "http://localhost/static/.env", "/static/.env#a", "/static/.env?a",
    ],
)  # fmt: skip
def test_no_request_leads_out_of_the_folder(user: Client, public: Path, target: str) -> None:
    (public.parent / "secret").write_bytes(b"secret")
    (public / ".env").write_bytes(b"secret")
    (public / "out").symlink_to(public.parent / "secret")
    answer = user.get(target)
    assert answer.status == 404

    assert json.loads(answer.body)["method"] == "GET", "the application was asked"


def test_every_answer_leaves_the_connection_in_step(user: Client, public: Path) -> None:
    """All kinds, pipelined: a wrong length of one would spoil the next."""
    tag = user.get("/static/a.css").header("ETag")
    asked = [
        ("GET", "/static/a.css", "", 200), ("HEAD", "/static/a.css", "", 200), ("HEAD", "/static/big", "", 200),
        ("GET", "/static/empty.txt", "", 200), ("GET", "/static/a.css", f"If-None-Match: {tag}", 304),
        ("HEAD", "/static/a.css", f"If-None-Match: {tag}", 304), ("GET", "/static/a.css", 'If-Match: "x"', 412),
        ("GET", "/static/a.css", "Range: bytes=5-9", 206), ("GET", "/static/a.css", "Range: bytes=700-", 416),
        ("HEAD", "/static/a.css", "Range: bytes=5-9", 200), ("GET", "/static/big", "Range: bytes=1-2000000", 206),
        ("DELETE", "/static/a.css", "", 405), ("GET", "/missing", "", 404), ("GET", "/static/big", "", 200),
    ]  # fmt: skip
    for method, path, field, _ in asked:
        lines = [f"{method} {path} HTTP/1.1", "Host: a", *([field] if field else []), "", ""]
        user.send("\r\n".join(lines).encode())
    for method, path, field, status in asked:
        answer = user.answer(head_only=method == "HEAD")
        assert answer.status == status, (method, path, field)
        if method == "GET" and status == 200:
            assert answer.body == (public / path.rpartition("/")[2]).read_bytes()
    assert user.get("/missing").status == 404


def test_a_head_is_that_of_the_get(user: Client) -> None:
    for path in ("/static/a.css", "/static/big", "/static/empty.txt"):
        get, head = user.get(path), user.get(path, method="HEAD")
        assert [pair for pair in head.headers if pair[0] != "Date"] == [
            pair for pair in get.headers if pair[0] != "Date"
        ]


def test_a_compressed_form_is_sent_to_who_accepts_it(user: Client, public: Path) -> None:
    answer = user.get("/static/a.css", "Accept-Encoding: gzip, deflate")
    assert answer.header("Content-Encoding") == "gzip"
    assert answer.header("Vary") == "Accept-Encoding"
    assert gzip.decompress(answer.body) == (public / "a.css").read_bytes()
    plain = user.get("/static/a.css")
    assert plain.header("Vary") == "Accept-Encoding"
    assert plain.header("ETag") != answer.header("ETag")
    again = user.get("/static/a.css", "Accept-Encoding: gzip", f"If-None-Match: {answer.header('ETag')}")
    assert again.status == 304
    other = user.get("/static/a.css", f"If-None-Match: {answer.header('ETag')}")
    assert other.status == 200, "the tag is that of another form"


def test_a_304_says_what_a_cache_needs(user: Client) -> None:
    first = user.get("/static/a.css")
    modified = first.header("Last-Modified")
    for field in (f"If-None-Match: {first.header('ETag')}", f"If-Modified-Since: {modified}"):
        answer = user.get("/static/a.css", field)
        assert answer.status == 304
        for name in ("ETag", "Cache-Control", "Vary"):
            assert answer.header(name) == first.header(name)
        assert answer.header("Content-Length") is None


def test_parts_put_together_are_the_file(user: Client, public: Path) -> None:
    content = (public / "big").read_bytes()
    found = b""
    for begin, end in ((0, 0), (1, 65536), (65537, 65600), (65601, 2_000_000), (2_000_001, "")):
        answer = user.get("/static/big", f"Range: bytes={begin}-{end}")
        assert answer.status == 206
        until = BIG_BYTES - 1 if end == "" else end
        assert answer.header("Content-Range") == f"bytes {begin}-{until}/{BIG_BYTES}"
        found += answer.body
    assert found == content
    assert user.get("/static/big", "Range: bytes=-7").body == content[-7:]


def test_a_part_of_another_version_is_not_mixed_in(user: Client, public: Path) -> None:
    tag = user.get("/static/big", method="HEAD").header("ETag")
    (public / "big").write_bytes(b"new")
    answer = user.get("/static/big", "Range: bytes=0-0", f"If-Range: {tag}")
    assert (answer.status, answer.body) == (200, b"new")


def test_other_methods_are_told_which_there_are(user: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = user.get("/static/a.css", method=method)
        assert answer.status == 405
        assert answer.header("Allow") == "GET, HEAD"
    assert user.get("/static/missing", method="POST").status == 404


def test_an_upload_is_served_at_once_and_checked_each_time(user: Client, public: Path) -> None:
    assert user.get("/media/new.txt").status == 404
    (public / "media").mkdir()
    (public / "media/new.txt").write_bytes(b"one")
    answer = user.get("/media/new.txt")
    assert (answer.status, answer.body) == (200, b"one")
    assert answer.header("Cache-Control") == "max-age=0, public"
    (public / "media/new.txt").write_bytes(b"other")
    again = user.get("/media/new.txt", f"If-None-Match: {answer.header('ETag')}")
    assert (again.status, again.body) == (200, b"other")
    (public / "media/new.txt").unlink()
    assert user.get("/media/new.txt").status == 404


def test_the_longest_prefix_comes_first_and_the_shorter_is_asked_next(
    make_site: MakeSite, public: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.css").write_bytes(b"other")
    site = make_site(
        APPLICATION,
        static={
            "/": {"path": str(public), "changes": False},
            "/x/": {"path": str(other), "changes": False},
        },
    )
    (public / "x").mkdir()
    for name in ("a.css", "b.css"):
        (public / "x" / name).write_bytes(b"public")
    site.start_worker()
    with client(site) as user:
        assert user.get("/x/a.css").body == b"other"
        assert user.get("/x/b.css").body == b"public"
        assert user.get("/empty.txt").status == 200
        assert user.get("/").status == 404


def test_workers_share_what_the_template_found(site: Site, public: Path) -> None:
    (public / "out").symlink_to("/etc/passwd")
    template = site.start_template()
    assert "links to hidden files or out of" in template.read()
    worker = site.fork_worker()
    with client(site) as user:
        assert user.get("/static/a.css").status == 200
        assert user.get("/static/out").status == 404
    assert worker.read() == "", "the worker did not look around again"


def test_a_missing_folder_is_told_when_the_site_loads(make_site: MakeSite, tmp_path: Path) -> None:
    missing = {"/static/": {"path": str(tmp_path / "missing"), "changes": False}}
    process = make_site(APPLICATION, static=missing).run("template")
    assert (
        process.channel.receive(LoadFailed).error
        == f'static "/static/": there is no folder {tmp_path}/missing'
    )
    assert process.exit_status() == 3
    assert "Traceback" not in process.read()


# --- WhiteNoise ---


def test_the_lent_whitenoise_leaves_neither_path_nor_name_behind(user: Client, site: Site) -> None:
    seen = json.loads(user.get("/").body)
    assert not [entry for entry in seen["import path"] if str(site.worker_folder) in entry]
    assert str(site.worker_folder) not in (seen["whitenoise"] or "")


def test_a_site_that_imports_whitenoise_gets_its_own(make_site: MakeSite, public: Path) -> None:
    static = {"/static/": {"path": str(public), "changes": False}}
    site = make_site("import whitenoise\n" + APPLICATION, static=static)
    own = site.directory / "whitenoise"
    own.mkdir()
    (own / "__init__.py").write_text("raise_if_used = None\n")
    worker = site.start_worker()
    with client(site) as user:
        seen = json.loads(user.get("/").body)
        assert seen["whitenoise"] == str(own / "__init__.py")
        assert seen["names"] == ["whitenoise"]
        assert user.get("/static/a.css").status == 200
    assert worker.read() == ""


def test_a_site_without_static_files_imports_no_whitenoise(make_site: MakeSite, tmp_path: Path) -> None:
    folder = harness.lay_out(tmp_path / "worker", harness.own_httptools())
    shutil.rmtree(folder / "lent" / "any")
    static = {"/static/": {"path": str(tmp_path), "changes": False}}
    make_site(APPLICATION, folder=folder).run("template").channel.receive(Loaded)
    process = make_site(APPLICATION, folder=folder, static=static).run("template")
    assert "static files need WhiteNoise" in process.channel.receive(LoadFailed).error


# --- big files, by the kernel ---


def test_where_the_kernel_cannot_send_it_the_part_is_read(public: Path) -> None:
    content = (public / "big").read_bytes()
    part = Slice(os.open(public / "big", os.O_RDONLY), 5, 200_005)
    assert part.tell() == 5
    assert b"".join(FileWrapper(part)) == content[5:200_005]
    part.close()
    part.close()


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sparse(path: Path, size: int) -> Path:
    """A file of so many zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def open_files(process: Process, path: Path) -> int:
    """How often a process has a file open."""
    found = 0
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found += str(fd.readlink()).startswith(str(path))
        except FileNotFoundError:
            continue
    return found


def wait_until_closed(site: Site, process: Process, path: Path) -> None:
    """A connection's end is seen in the scoreboard; its file is closed before."""
    site.wait_for(lambda row: row.connections == 0)
    assert open_files(process, path) == 0


def shrink_receive_buffer(user: Client) -> None:
    user.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)


def test_a_huge_file_is_sent_in_constant_memory(site: Site, worker: Process, public: Path) -> None:
    huge = sparse(public / "huge", HUGE_BYTES)
    space = bytearray(1 << 20)
    with client(site) as user:
        user.get("/static/a.css")
        before = rss_bytes(worker.pid)
        most = 0
        for field, size in (("A: b", HUGE_BYTES), (f"Range: bytes={HUGE_BYTES // 2}-", HUGE_BYTES // 2)):
            user.send(f"GET /static/huge HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())
            head = user._until(b"\r\n\r\n")
            assert b"Content-Length: %d" % size in head
            got = len(user.buffer)
            user.buffer.clear()
            while got < size:
                count = user.sock.recv_into(space)
                assert count
                got += count
                most = max(most, rss_bytes(worker.pid))
            assert got == size
    assert most - before < GROWTH_MAX_BYTES
    assert open_files(worker, huge) == 0


def test_a_slow_reader_of_a_file_holds_nobody_up(site: Site, worker: Process, public: Path) -> None:
    large = sparse(public / "large", LARGE_BYTES)
    with client(site) as slow, client(site) as user:
        shrink_receive_buffer(slow)
        slow.send(b"GET /static/large HTTP/1.1\r\nHost: a\r\n\r\n")
        slow.buffer += slow.sock.recv(1)
        assert user.get("/static/a.css").status == 200
        assert user.get("/static/big").body == (public / "big").read_bytes()
        assert open_files(worker, large) == 1
        assert slow.answer().body == bytes(LARGE_BYTES)
        assert slow.get("/static/a.css").status == 200
    wait_until_closed(site, worker, public)
    assert worker.read() == ""


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_in_the_middle_leaves_no_file_open(
    site: Site, worker: Process, public: Path, *, reset: bool
) -> None:
    large = sparse(public / "large", LARGE_BYTES)
    with client(site) as user:
        shrink_receive_buffer(user)
        user.send(b"GET /static/large HTTP/1.1\r\nHost: a\r\n\r\n")
        user.sock.recv(1000)
        assert open_files(worker, large) == 1
        if reset:
            user.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until_closed(site, worker, large)
    assert worker.read() == ""


def test_a_client_that_does_not_read_a_file_is_given_up(make_site: MakeSite, public: Path) -> None:
    static = {"/static/": {"path": str(public), "changes": False}}
    site = make_site(APPLICATION, static=static, limits={"write_timeout_s": 0.5})
    worker = site.start_worker()
    large = sparse(public / "large", LARGE_BYTES)
    with client(site) as user:
        user.send(b"GET /static/large HTTP/1.1\r\nHost: a\r\n\r\n")
        user.sock.recv(1)
        wait_until_closed(site, worker, large)


def test_a_file_that_gets_shorter_while_it_is_sent_ends_the_connection_and_is_told(
    site: Site, worker: Process, public: Path
) -> None:
    large = sparse(public / "large", LARGE_BYTES)
    with client(site) as user:
        shrink_receive_buffer(user)
        user.send(b"GET /static/large HTTP/1.1\r\nHost: a\r\n\r\n")
        user.sock.recv(1000)
        os.truncate(large, 100)
        assert len(user.rest()) < LARGE_BYTES
    said = worker.read(until=b"the connection was closed")
    assert "GET /static/large: the response is " in said
    wait_until_closed(site, worker, large)


def test_a_file_is_sent_on_after_its_worker_was_told_to_leave(
    site: Site, worker: Process, public: Path, make_site: MakeSite
) -> None:
    heir = make_site.another(site)  # type: ignore[attr-defined]
    heir.start_worker()
    sparse(public / "large", LARGE_BYTES)
    with client(site) as user:
        shrink_receive_buffer(user)
        user.send(b"GET /static/large HTTP/1.1\r\nHost: a\r\n\r\n")
        user.buffer += user.sock.recv(1)
        site.drain(worker, to=heir)
        site.wait_for(lambda row: row.state == "draining")
        assert user.answer().body == bytes(LARGE_BYTES)
        assert user.get("/static/a.css").status == 200
    assert worker.exit_status() == 0
