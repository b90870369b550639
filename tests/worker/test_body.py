from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djsup_worker.body import (
    CHUNK_LINE_MAX_BYTES,
    PIECES_MAX,
    ROOM_BYTES,
    SPOOL_BYTES,
    SPOOL_EARLY_BYTES,
    TRAILERS_MAX_BYTES,
    ChunkedBody,
    Room,
    SizedBody,
    Spool,
)
from djsup_worker.refusal import Refused

MOST = 20_000


def feed_in_pieces(body: ChunkedBody | SizedBody, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """The body and what follows it, when the data comes in pieces."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        piece = data[begin:end]
        rest = body.feed(piece) if piece else None
        if rest is not None:
            return body.spool.finish().read(), rest + data[end:]
    raise AssertionError("the body did not end")


def refusal(body: ChunkedBody, pieces: list[bytes]) -> int:
    """The status with which a body is refused while these pieces come."""
    try:
        for piece in pieces:
            assert body.feed(piece) is None
    except Refused as refused:
        return refused.status
    raise AssertionError("it was not refused")


def chunked(*pieces: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    return (
        b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in pieces)
        + b"0\r\n"
        + trailers
        + b"\r\n"
    )


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=6),
    cuts=st.lists(st.integers(min_value=0, max_value=2000), max_size=30),
    extension=st.sampled_from([b"", b";a", b";a=b", b'; a = "b\\"c;\td" ;e', b" ;a"]),
    trailers=st.sampled_from([b"", b"X-Sum: 1\r\n", b"A:\r\nB: c \r\n"]),
    rest=st.sampled_from([b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"]),
)
def test_chunks_mean_the_same_however_they_arrive(
    pieces: list[bytes], cuts: list[int], extension: bytes, trailers: bytes, rest: bytes
) -> None:
    data = chunked(*pieces, extension=extension, trailers=trailers) + rest
    assert feed_in_pieces(ChunkedBody(MOST), data, cuts) == (b"".join(pieces), rest)


@given(
    body=st.binary(min_size=1, max_size=200),
    cuts=st.lists(st.integers(min_value=0, max_value=300), max_size=9),
)
def test_a_sized_body_ends_where_it_says(body: bytes, cuts: list[int]) -> None:
    assert feed_in_pieces(SizedBody(len(body)), body + b"next", cuts) == (body, b"next")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n", b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b"1 \r\n", b"1_0\r\n", b";a\r\n", b"5\n",
        b"5\r\rhello\n", b"5;\r\n", b"5;a=\r\n", b'5;a="\r\n', b"5;a\x00\r\n", b'5;a="\n"\r\n', b"5;a b\r\n",
        b"5\r\nhelloX\r\n", b"5\r\nhello\n0\r\n", b"5\r\nhello\rX", b"5\r\nhello0\r\n\r\n",
        b"0\r\nHost: a\r\n\r\n", b"0\r\nContent-Length: 1\r\n\r\n", b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nAuthorization: x\r\n\r\n", b"0\r\nno field\r\n\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\n A: b\r\n\r\n",
        b"0\r\nA: b\x00\r\n\r\n", b"0\r\nA: b\n\r\n", b"0\r\n\n", b"fffffffffffffffff\r\n", b"0" * 2000,
        b"1;" + b"a" * 2000,
    ],
)  # fmt: skip
def test_malformed_chunks_are_refused(data: bytes) -> None:
    for pieces in ([data], [bytes((byte,)) for byte in data]):
        assert refusal(ChunkedBody(MOST), pieces) in (400, 413)


def test_a_chunked_body_is_refused_before_it_grows_too_long() -> None:
    body = ChunkedBody(10)
    assert body.feed(b"6\r\nabcdef\r\n") is None
    with pytest.raises(Refused) as caught:
        body.feed(b"5\r\n")
    assert caught.value.status == 413


def test_extensions_and_trailers_have_limits() -> None:
    assert refusal(ChunkedBody(MOST), [b"1;" + b"a" * 500 + b"\r\nx\r\n"] * 100) == 400
    assert refusal(ChunkedBody(MOST), [b"0\r\n"] + [b"A: " + b"a" * 500 + b"\r\n"] * 100) == 431


@pytest.mark.parametrize(
    ("before", "most", "after"),
    [(b"1;", CHUNK_LINE_MAX_BYTES, b"\r\nx\r\n0\r\n\r\n"), (b"0\r\nA:", TRAILERS_MAX_BYTES, b"\r\n\r\n")],
)
def test_the_longest_line_is_the_same_however_it_arrives(before: bytes, most: int, after: bytes) -> None:
    fill = most - len(before.rpartition(b"\n")[2])
    data = before + b"a" * fill + after
    for pieces in ([data], [bytes((byte,)) for byte in data]):
        body = ChunkedBody(MOST)
        assert [body.feed(piece) for piece in pieces][-1] == b""
    data = before + b"a" * (fill + 1) + after
    for pieces in ([data], [bytes((byte,)) for byte in data]):
        assert refusal(ChunkedBody(MOST), pieces) in (400, 431)


def test_a_body_of_many_small_pieces_is_whole_and_takes_little_more_memory_than_it_has() -> None:
    spool = Spool()
    for number in range(PIECES_MAX * 3 + 1):
        spool.write(bytes((number % 251,)))
    assert len(spool._pieces) < PIECES_MAX
    assert spool.finish().read() == bytes(number % 251 for number in range(PIECES_MAX * 3 + 1))


def test_a_long_body_goes_to_a_file() -> None:
    short = SizedBody(SPOOL_BYTES)
    assert short.feed(b"x" * SPOOL_BYTES) == b""
    assert not short.spool.spooled
    long = SizedBody(SPOOL_BYTES + 1)
    spooled = []
    for data in (b"x" * SPOOL_EARLY_BYTES, b"x"):
        assert long.feed(data) is None
        spooled.append(long.spool.spooled)
    assert spooled == [False, True], "who only announces a body costs no descriptor"
    long.spool.close()
    spool = Spool()
    for _ in range(3):
        spool.write(b"x" * (SPOOL_BYTES // 2))
    assert spool.spooled
    assert spool.finish().fileno() > 2
    assert spool.finish().read() == b"x" * (SPOOL_BYTES // 2 * 3)
    spool.close()


def test_bodies_in_memory_share_their_room() -> None:
    room = Room()
    bodies = [SizedBody(SPOOL_BYTES, room) for _ in range(ROOM_BYTES // SPOOL_BYTES + 2)]
    for body in bodies:
        assert body.feed(b"x" * (SPOOL_BYTES - 1)) is None
    assert [body.spool.spooled for body in bodies].count(True) == room.files > 0
    assert ROOM_BYTES - SPOOL_BYTES < room.held_bytes <= ROOM_BYTES
    for body in bodies:
        body.spool.close()
    assert (room.files, room.held_bytes) == (0, 0)


def test_no_file_is_opened_when_there_is_no_descriptor_for_it() -> None:
    body = SizedBody(SPOOL_BYTES * 2, Room(lambda: False))
    with pytest.raises(OSError, match="Too many open files"):
        body.feed(b"x" * SPOOL_BYTES)
    body.spool.close()


def test_less_is_read_at_a_time_of_a_body_in_tiny_chunks() -> None:
    body = ChunkedBody(MOST)
    first = body.appetite
    for _ in range(8):
        assert body.feed(b"1\r\nx\r\n" * 500) is None
    tiny = body.appetite
    for _ in range(8):
        assert body.feed(b"400\r\n" + b"x" * 1024 + b"\r\n") is None
    body.spool.close()
    assert tiny < first < body.appetite
