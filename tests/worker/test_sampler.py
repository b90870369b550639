"""One profile after another."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from djsup_worker.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def computing() -> Iterator[None]:
    """Another thread that wants the interpreter all the time."""
    enough = threading.Event()

    def compute() -> None:
        while not enough.is_set():
            pass

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def profiled(sampler: Sampler) -> bytes:
    reads, writes = os.pipe()
    sampler.begin(0.02, 200, writes)
    with os.fdopen(reads, "rb") as pipe:
        return pipe.read()


def test_the_next_profile_may_begin_as_soon_as_the_pipe_of_the_last_one_ends() -> None:
    usual = sys.getswitchinterval()
    sampler = Sampler()
    with computing():
        for _ in range(20):
            assert json.loads(profiled(sampler))["rounds"] > 0
    assert sys.getswitchinterval() == usual


def test_a_second_profile_beside_the_first_is_told_nothing() -> None:
    sampler = Sampler()
    reads, writes = os.pipe()
    sampler.begin(30, 10, writes)
    try:
        assert profiled(sampler) == b""
    finally:
        os.close(reads)  # the first ends with its reader
