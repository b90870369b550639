"""What a profile counts, and how it is drawn."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from djsup import flame, profile
from djsup.profile import BadProfile, Profile
from djsup.stacks import Frame

POLL = ["/run/worker/djsup_worker/loop.py", 10, "Loop.poll"]
VIEW = ["/srv/blog/views.py", 3, "<view>"]
SORT = ["/srv/blog/sorting.py", 7, "sort"]
BOOTSTRAP = ["/usr/lib/python3.12/threading.py", 1000, "Thread._bootstrap"]
WAIT = ["/usr/lib/python3.12/threading.py", 300, "Condition.wait"]


def told(*stacks: tuple[int, list[int]]) -> bytes:
    frames = [POLL, VIEW, SORT, BOOTSTRAP, WAIT]
    return json.dumps({"rounds": 10, "lost": 0, "frames": frames, "stacks": stacks}).encode()


def test_stacks_of_all_workers_are_added_up_without_djsups_calls_and_what_waits_is_idle() -> None:
    seen = Profile()
    for _ in range(2):
        seen.add(told((3, [2, 1, 0, 3]), (1, [1, 0, 3]), (6, [0, 3]), (5, [4, 3])))
    view, sort = Frame(*VIEW), Frame(*SORT)  # type: ignore[arg-type]
    assert seen.stacks == {(view, sort): 6, (view,): 2}
    assert seen.idle.total() == 22
    assert profile.from_json(seen.to_json()) == seen.stacks
    first, second = profile.tops(seen.stacks)
    assert (first.frame, first.own, first.total) == (sort, 6, 6)
    assert (second.frame, second.own, second.total) == (view, 2, 8)
    assert (
        profile.folded(seen.stacks).splitlines()[0] == "<view> (blog/views.py:3);sort (blog/sorting.py:7) 6"
    )


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", told((1, [99])), b'{"rounds": 1, "lost": 0}'])
def test_what_is_no_profile_is_refused(text: bytes) -> None:
    with pytest.raises(BadProfile):
        Profile().add(text)


def test_a_flame_graph_is_wellformed_escapes_names_and_has_no_script() -> None:
    seen = Profile()
    seen.add(told((3, [2, 1, 0]), (1, [1, 0])))
    picture = ET.fromstring(flame.svg(seen.stacks, "<blog>"))
    titles = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert "sort (blog/sorting.py:7): 3 of 4 samples (75.0 %)" in titles
    page = flame.html(seen.stacks, "<blog>")
    assert "<view>" not in page
    assert "<script" not in page


def test_a_profile_without_samples_is_drawn_too() -> None:
    ET.fromstring(flame.svg(Profile().stacks, "nothing"))


FROM_PY_SPY = b"""\
0x7f43 (/usr/lib/libc.so.6);main (/run/worker/djsup_worker/__main__.py:40);poll (/run/worker/djsup_worker/loop.py:1);\
feed (/srv/parser.so);turn (/run/worker/djsup_worker/wsgi.py:9);<view> (/srv/blog/views.py:3);\
std::sort(int (*)(int)) (/usr/lib/libsort.so) 7
main (/run/worker/djsup_worker/__main__.py:40);poll (/run/worker/djsup_worker/loop.py:1);epoll_wait (/usr/lib/libc.so.6) 5
loose end
"""


def test_what_py_spy_has_seen_is_read_without_djsups_calls_and_with_those_in_c() -> None:
    seen = Profile()
    assert seen.add_folded(FROM_PY_SPY) == 12
    (calls,) = seen.stacks
    assert calls == (Frame(*VIEW), Frame("/usr/lib/libsort.so", 0, "std::sort(int (*)(int))"))  # type: ignore[arg-type]
    assert (seen.stacks.total(), seen.idle.total()) == (7, 5)
