from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from djsup.core.model import LogSettings, Pid, SiteName
from djsup.shell.logs import LINE_MAX_BYTES, Capture, Logs, Writer

BLOG = SiteName("blog")


def in_loop(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())  # type: ignore[arg-type]


def logs_in(folder: Path, kind: str = "json") -> Logs:
    return Logs(LogSettings(format=kind, directory=str(folder)), Writer())


async def printed(logs: Logs, *pieces: bytes, to: int = 1) -> Capture:
    capture = Capture(logs, BLOG, 3)
    capture.pid = Pid(77)
    ends = capture.open()
    for piece in pieces:
        os.write(ends[to], piece)
        capture.read("stderr" if to else "stdout")
    for end in ends:
        os.close(end)
    capture.finish()
    return capture


def test_lines_are_labelled_with_site_slot_pid_and_stream(tmp_path: Path) -> None:
    async def story() -> None:
        logs = logs_in(tmp_path)
        await printed(logs, b"half a ", b"line\nanother\n", to=0)
        logs.writer.close()

    in_loop(story)
    lines = [json.loads(line) for line in (tmp_path / "blog.log").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["half a line", "another"]
    assert lines[0].items() >= {"site": "blog", "slot": 3, "pid": 77, "stream": "stdout"}.items()


def test_the_last_fifty_lines_of_standard_error_are_kept() -> None:
    async def story() -> None:
        capture = await printed(Logs(LogSettings(), Writer()), b"".join(b"%d\n" % n for n in range(80)))
        assert list(capture.last_stderr) == [str(number) for number in range(30, 80)]

    in_loop(story)


def test_an_endless_line_is_cut_and_control_characters_do_no_harm(tmp_path: Path) -> None:
    async def story() -> None:
        logs = logs_in(tmp_path)
        capture = await printed(logs, b"x" * (3 * LINE_MAX_BYTES), b"\n\x1b[2Jhidden\n")
        logs.writer.close()
        assert max(map(len, capture.last_stderr)) == LINE_MAX_BYTES
        assert capture.last_stderr[-1] == "\\x1b[2Jhidden"

    in_loop(story)


def test_a_log_that_cannot_be_written_stops_nothing_and_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []

    async def story() -> None:
        logs = logs_in(tmp_path / "missing")
        logs.writer.trouble = said.append
        await printed(logs, b"one\ntwo\nthree\n")
        logs.writer.close()
        assert len(logs.kept(BLOG, 10)) == 3

    in_loop(story)
    assert len(said) == 1
    assert "missing" in said[0]


def test_a_moved_file_is_opened_anew_when_asked(tmp_path: Path) -> None:
    async def story() -> None:
        logs = logs_in(tmp_path, "console")
        await printed(logs, b"before\n")
        logs.writer.close()
        writer = Writer()
        again = Logs(logs.settings, writer)
        (tmp_path / "blog.log").rename(tmp_path / "blog.log.moved")
        again.writer.reopen()
        await printed(again, b"after\n")
        writer.close()

    in_loop(story)
    assert "before" in (tmp_path / "blog.log.moved").read_text()
    assert "after" in (tmp_path / "blog.log").read_text()


def test_followers_get_what_is_printed_from_then_on() -> None:
    async def story() -> None:
        logs = Logs(LogSettings(), Writer())
        await printed(logs, b"early\n")
        follower = logs.follow()
        await printed(logs, b"late\n")
        logs.unfollow(follower)
        await printed(logs, b"later\n")
        assert follower.get_nowait().text == "late"
        assert follower.empty()
        assert [line.text for line in logs.kept(BLOG, 2)] == ["late", "later"]

    in_loop(story)


def test_lines_of_a_program_are_labelled_with_it_and_all_are_kept_when_asked_for(tmp_path: Path) -> None:
    kept: list[str] = []

    async def story() -> None:
        logs = logs_in(tmp_path)
        capture = Capture(logs, BLOG, None, "clean/0", keep_all=True)
        ends = capture.open()
        for end in ends:
            os.write(end, b"to %d\n" % ends.index(end))
            os.close(end)
        capture.finish()
        kept.extend(capture.last_stderr)
        logs.writer.close()

    in_loop(story)
    lines = [json.loads(line) for line in (tmp_path / "blog.log").read_text().splitlines()]
    assert [(line["program"], line["stream"]) for line in lines] == [
        ("clean/0", "stdout"),
        ("clean/0", "stderr"),
    ]
    assert kept == ["to 0", "to 1"]


def test_a_log_that_cannot_be_written_is_said_once_though_another_cannot_be_either(tmp_path: Path) -> None:
    writer, told = Writer(), list[str]()
    writer.trouble = told.append
    for _ in range(3):
        for name in ("blog", "shop"):
            writer.write("a line", str(tmp_path / "no-such-folder" / f"{name}.log"))
    writer.close()
    assert len(told) == 2
