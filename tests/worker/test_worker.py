"""A worker and its daemon: limits, stacks, orphans."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from djsup_worker.messages import NewLimits
from worker.applications import HELLO
from worker.harness import client
from worker.test_crew import Gate, block

if TYPE_CHECKING:
    from worker.conftest import MakeSite


def ticks(pid: int) -> int:
    """The processor time of a process, in clock ticks."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))


def test_new_limits_hold_from_now_on(make_site: MakeSite) -> None:
    site = make_site(HELLO)
    worker = site.start_worker()
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert user.answer().status == 200
        worker.channel.send(
            NewLimits({"max_body_bytes": 3, "keepalive_s": 1.1, "unknown": 1, "body_timeout_s": "x"})
        )
        assert user.closed(5), "the new keep-alive time holds for old connections too"
    with client(site) as user:
        user.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        assert user.answer().status == 413


def test_no_client_waits_for_what_a_worker_does_for_the_first_time_and_nobody_is_asked_for_it(
    make_site: MakeSite,
) -> None:
    site = make_site(
        """
        CALLS = []

        def application(environ, start_response):
            CALLS.append(environ["PATH_INFO"])
            start_response("200 OK", [])
            return [" ".join(CALLS).encode()]
        """,
        threads=2,
    )
    worker = site.start_worker()
    names = [each.joinpath("comm").read_text() for each in Path(f"/proc/{worker.pid}/task").iterdir()]
    assert len(names) == 3, "the monitor, which the first request starts, is there"
    row = site.row()
    assert (row.requests, row.accepted, row.bytes_out, row.classes) == (0, 0, 0, (0, 0, 0, 0, 0))
    with client(site) as user:
        assert user.get("/a").body == b"/a"
    site.wait_for(lambda row: (row.requests, row.connections) == (1, 0))


def test_a_health_question_counts_as_nobodys_request(make_site: MakeSite) -> None:
    site = make_site(HELLO, health_path="/healthz")
    site.start_worker()
    assert site.row().requests == 0
    site.wait_for(lambda row: row.connections == 0)


def test_stacks_of_all_threads_are_written_on_the_signal(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(
        """
        import sys

        def application(environ, start_response):
            with open(environ["QUERY_STRING"], "rb", buffering=0) as fifo:
                print("in the application", file=sys.stderr)
                fifo.read(1)
            start_response("200 OK", [])
            return []
        """,
        threads=2,
    )
    worker = site.start_worker()
    with contextlib.closing(Gate(tmp_path / "gate")) as gate, client(site) as user:
        block(user, gate)
        worker.read(until=b"in the application")
        worker.kill(signal.SIGRTMIN + 3)
        worker.read(until=b"app.py")
        gate.open()
        assert user.answer().status == 200


def test_a_worker_serves_on_without_its_daemon_and_then_leaves(make_site: MakeSite) -> None:
    site = make_site(
        """
        import sys

        def application(environ, start_response):
            print("printed", file=sys.stderr)
            print("printed")
            start_response("200 OK", [])
            return [b"hello"]
        """,
        orphan_grace_s=0.5,
    )
    site.start_template()
    worker = site.fork_worker()
    worker.channel.close()
    for fd in worker.output.values():
        os.close(fd)
    worker.output = {}
    begun = time.monotonic()
    with client(site) as user:
        for _ in range(10):
            assert user.get().status == 200
        site.wait_for(lambda row: row.state == "draining")
        assert time.monotonic() - begun > 0.4
    worker.output = {}
    deadline = time.monotonic() + 10
    while (found := os.waitpid(worker.pid, os.WNOHANG))[0] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.reaped = os.waitstatus_to_exitcode(found[1])
    assert worker.reaped == 0


def test_a_process_is_named_by_its_site_and_slot(make_site: MakeSite) -> None:
    site = make_site(HELLO)
    template = site.start_template()
    worker = site.fork_worker(3)
    assert Path(f"/proc/{template.pid}/comm").read_text() == "djsup site tpl\n"
    assert Path(f"/proc/{worker.pid}/comm").read_text() == "djsup site 3\n"


def test_out_of_descriptors_accepting_pauses_and_goes_on(make_site: MakeSite) -> None:
    """The site itself has taken all descriptors; said once, and no spinning."""
    site = make_site(
        """
        import os

        taken = []

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/take":
                try:
                    while True:
                        taken.append(os.dup(0))
                except OSError:
                    pass
            elif environ["PATH_INFO"] == "/free":
                while taken:
                    os.close(taken.pop())
            start_response("200 OK", [])
            return [b"x"]
        """
    )
    worker = site.start_worker()
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (200, 200))
    with client(site) as user:
        assert user.get("/take").status == 200
        with client(site) as waiting:
            waiting.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            said = worker.read(until=b"cannot accept connections for now: Too many open files")
            time.sleep(0.5)
            before = ticks(worker.pid)
            time.sleep(0.5)
            assert ticks(worker.pid) - before <= 3
            assert user.get("/free").status == 200
            assert waiting.answer().status == 200
        said = worker.read()
    assert said.count("cannot accept") == 1


def test_more_connections_than_descriptors_wait_in_the_kernel(make_site: MakeSite) -> None:
    site = make_site(HELLO)
    worker = site.start_worker()
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (100, 100))
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(client(site)) for _ in range(60)]
        assert users[0].get().status == 200
        site.wait_for(lambda row: row.connections >= 36)
        time.sleep(0.1)
        assert site.row().connections <= 36, "64 descriptors are left to the application"
        for user in users[:40]:
            user.sock.close()
        assert users[-1].get().status == 200
    assert worker.read() == ""


def test_nothing_of_the_workers_is_inherited_by_programs_that_the_site_runs(make_site: MakeSite) -> None:
    site = make_site(
        """
        import os, subprocess

        def application(environ, start_response):
            start_response("200 OK", [])
            script = "ls -l /proc/self/fd"
            return [subprocess.check_output(["sh", "-c", script], close_fds=False)]
        """
    )
    site.start_template()
    site.fork_worker()
    with client(site) as user:
        listed = user.get().body.decode()
    assert "socket:" not in listed, listed
    assert "memfd" not in listed, listed
    assert "eventpoll" not in listed, listed
