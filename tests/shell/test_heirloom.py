"""What the next daemon gets from a router that an earlier one has started."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from djsup.shell import heirloom


def test_who_asks_has_all_that_is_given_once_nothing_is_done_any_more(tmp_path: Path) -> None:
    home = heirloom.open_home(tmp_path / "router.sock")
    stopped = threading.Event()

    def give() -> None:
        asker = heirloom.give(home, [("127.0.0.1:80", listener), (heirloom.VAULT, line)])
        assert asker is not None
        stopped.wait(0.2)  # whoever asks is to wait for that
        stopped.set()
        heirloom.say_last(asker, {"blog": {"routed": 3}})

    with home, socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as line:
        giver = threading.Thread(target=give)
        giver.start()
        given, figures = heirloom.ask(tmp_path / "router.sock")
        assert stopped.is_set()
        giver.join()
        assert figures == {"blog": {"routed": 3}}
        assert [name for name, _ in given] == ["127.0.0.1:80", heirloom.VAULT]
        assert given[0][1].getsockname() == listener.getsockname()
        for _, sock in given:
            sock.close()


def test_nobody_is_there(tmp_path: Path) -> None:
    assert heirloom.ask(tmp_path / "router.sock") == ([], {})
    heirloom.open_home(tmp_path / "router.sock").close()
    assert heirloom.ask(tmp_path / "router.sock") == ([], {})


def test_one_that_lives_and_does_not_answer_is_told_from_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heirloom, "WAIT_S", 0.1)
    with heirloom.open_home(tmp_path / "router.sock"), pytest.raises(TimeoutError):
        heirloom.ask(tmp_path / "router.sock")
