"""Random and damaged messages: one reading, whatever the pieces, and the same framing as an independent reader's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.grammar import CONNECTION, pieces
from conformance.readings import check_framing, check_input, check_one_reading
from djsup_worker.trust import Trust
from worker.inprocess import InProcess, byte_by_byte, in_process

CORPUS = Path(__file__).parent / "corpus"
SEEDS = Path(__file__).parent / "seeds"
EXAMPLES = 200


@pytest.fixture(scope="module")
def worker() -> Iterator[InProcess]:
    with in_process() as made:
        yield made


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=CONNECTION, cuts=st.lists(st.integers(0, 2000), min_size=1, max_size=5))
def test_a_connection_has_one_reading_and_it_is_the_right_one(
    worker: InProcess, data: bytes, cuts: list[int]
) -> None:
    reading = check_one_reading(worker, data, [byte_by_byte(data), pieces(data, cuts)])
    check_framing(data, reading)


@pytest.mark.parametrize(
    "path", sorted(CORPUS.glob("*/*.raw")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_the_corpus_is_framed_as_an_independent_reader_frames_it(worker: InProcess, path: Path) -> None:
    data = path.read_bytes()
    reading = check_one_reading(worker, data, [byte_by_byte(data)])
    check_framing(data, reading)


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[int, InProcess]]:
    made: dict[int, InProcess] = {}
    yield made
    for each in made.values():
        each.close()


@pytest.fixture(scope="module")
def behind_a_proxy() -> Iterator[InProcess]:
    with in_process(trust=Trust("site", ["10.0.0.0/8"], proxy_protocol=True)) as made:
        yield made


@pytest.mark.parametrize("path", sorted(SEEDS.iterdir()), ids=lambda path: path.name[:12])
def test_inputs_that_the_fuzzer_kept_have_one_reading(workers: dict[int, InProcess], path: Path) -> None:
    check_input(path.read_bytes(), workers, random.Random(0))


@settings(
    max_examples=EXAMPLES // 4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    data=CONNECTION,
    header=st.sampled_from(
        [b"", b"PROXY UNKNOWN\r\n", b"PROXY TCP4 9.9.9.9 8.8.8.8 1 2\r\n", b"PROXY TCP4 "]
    ),
    cuts=st.lists(st.integers(0, 2000), min_size=1, max_size=5),
)
def test_a_trusted_proxys_connection_has_one_reading(
    behind_a_proxy: InProcess, data: bytes, header: bytes, cuts: list[int]
) -> None:
    for sent, preface in ((data, False), (header + data, True)):
        ways = [byte_by_byte(sent), pieces(sent, cuts)]
        check_one_reading(behind_a_proxy, sent, ways, peer=("10.0.0.1", "5"), preface=preface)
