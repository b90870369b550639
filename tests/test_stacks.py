from __future__ import annotations

from djsup.stacks import Frame, Request, Stack, Thread, parse, together

SITE = Frame("/srv/blog/posts/views.py", 12, "report")
DJANGO = Frame(
    "/srv/blog/.venv/lib/python3.12/site-packages/django/core/handlers/base.py", 197, "_get_response"
)
OWN = Frame("/run/djsup/worker/djsup_worker/wsgi.py", 330, "begin")
POLL = Frame("/run/djsup/worker/djsup_worker/loop.py", 210, "poll")
LIVE = Frame("/run/djsup/worker/djsup_worker/crew.py", 180, "_live")
BELOW = Frame("/usr/lib/python3.12/threading.py", 1052, "_bootstrap_inner")
BODY = Frame("/run/djsup/worker/djsup_worker/body.py", 90, "read")
TEXT = """\
Thread 0x00007f0e3b7fe6c0 (most recent call first):
  File "/srv/blog/posts/views.py", line 12 in report
  File "/srv/blog/posts/caf\\xe9.py", line 3 in <module>
  ...

rubbish
Thread 0x00007f0e3bfff6c0 [djsup-1] (most recent call first):
  <no Python frame>

Current thread 0x00007f0e3d000740 (most recent call first):
  Garbage-collecting
  File ???, line ??? in ???
"""


def stack(*frames: Frame) -> Stack:
    return Stack(1, False, frames)


def test_what_faulthandler_writes_is_read() -> None:
    first, second, third = parse(TEXT)
    assert (first.ident, first.current) == (0x7F0E3B7FE6C0, False)
    assert first.frames == (SITE, Frame("/srv/blog/posts/caf\\xe9.py", 3, "<module>"))
    assert second.frames == ()
    assert (third.current, third.frames) == (True, (Frame("???", 0, "???"),))


def test_a_text_without_end_is_read_with_bounds() -> None:
    frames = '  File "/x", line 1 in f\n' * 10_000
    many = "".join(f"Thread 0x{number:016x} (most recent call first):\n" for number in range(10_000))
    (one,) = parse(f"Thread 0x1 (most recent call first):\n{frames}")
    assert len(one.frames) == 200
    assert len(parse(many)) == 256
    assert parse('  File "/x", line 1 in f\n\0\n') == []


def test_djsups_calls_below_the_application_are_left_out() -> None:
    assert stack(SITE, DJANGO, OWN, POLL, LIVE, BELOW).of_site == (SITE, DJANGO)
    assert stack(BODY, SITE, OWN, POLL).of_site == (BODY, SITE)
    assert stack(SITE, BELOW).of_site == (SITE, BELOW)


def test_threads_of_djsups_own_are_named() -> None:
    assert stack(POLL, LIVE, BELOW).idle == "polls for connections"
    assert stack(LIVE, BELOW).idle == "parked"
    assert stack(SITE, DJANGO, OWN, POLL).idle is None
    assert stack(BELOW).idle is None


def test_threads_at_one_place_are_put_together_the_oldest_request_first() -> None:
    def thread(slot: int, age_s: float | None) -> Thread:
        return Thread(slot, 100 + slot, slot, None if age_s is None else Request("GET", f"/{slot}", age_s))

    places = together(
        [
            (thread(0, None), stack(POLL, LIVE, BELOW)),
            (thread(1, 1.0), stack(SITE, DJANGO, OWN, POLL, BELOW)),
            (thread(2, 9.0), stack(SITE, OWN, POLL)),
            (thread(3, 3.0), stack(SITE, DJANGO, OWN, LIVE)),
            (thread(4, None), stack(POLL)),
        ]
    )
    assert [[each.slot for each in place.threads] for place in places] == [[2], [3, 1], [0, 4]]
    assert [place.idle for place in places] == [None, None, "polls for connections"]


def test_a_thread_that_runs_a_request_is_never_called_idle() -> None:
    sends = Thread(0, 1, 1, Request("GET", "/", 5.0))
    (place,) = together([(sends, stack(POLL, LIVE))])
    assert place.idle is None
    assert place.frames == (POLL, LIVE)
