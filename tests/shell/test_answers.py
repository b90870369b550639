from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress

from djsup.shell import answers

LONG_S = 20.0


def test_an_answer_is_read_to_its_end() -> None:
    def ask(pipe: int) -> None:
        os.write(pipe, b"all of it")

    assert asyncio.run(answers.read(ask, LONG_S, 100)) == b"all of it"


def test_who_does_not_know_the_question_and_closes_the_pipe_is_not_waited_for() -> None:
    began = time.monotonic()
    assert asyncio.run(answers.read(lambda _pipe: None, LONG_S, 100)) == b""
    assert time.monotonic() - began < LONG_S / 2


def test_who_keeps_silent_is_waited_for_so_long_and_what_is_no_whole_answer_is_none() -> None:
    kept: list[int] = []

    def ask(pipe: int) -> None:
        kept.append(os.dup(pipe))
        os.write(kept[0], b"the beginning")

    assert asyncio.run(answers.read(ask, 0.1, 100)) == b""
    os.close(kept[0])


def test_an_answer_without_end_is_cut() -> None:
    writers: list[threading.Thread] = []

    def ask(pipe: int) -> None:
        def write(end: int) -> None:
            with suppress(BrokenPipeError):
                while True:
                    os.write(end, bytes(1000))
            os.close(end)

        writers.append(threading.Thread(target=write, args=(os.dup(pipe),)))
        writers[0].start()

    answer = asyncio.run(answers.read(ask, LONG_S, 100_000))
    writers[0].join(LONG_S)
    assert not writers[0].is_alive()
    assert 100_000 < len(answer) <= 100_000 + answers.BITE_BYTES
