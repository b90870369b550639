from __future__ import annotations

from pathlib import Path

import pytest

from djsup.shell import tail
from djsup.shell.tail import Tail


def test_last_lines_are_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log"
    file.write_text("".join(f"{number}\n" for number in range(100)))
    for limit, expected in ((3, ["97", "98", "99"]), (0, []), (200, [str(number) for number in range(100)])):
        with Tail(file) as end:
            assert end.last(limit) == expected
    monkeypatch.setattr(tail, "BITE_BYTES", 8)
    with Tail(file) as end:
        assert end.last(50) == ["98", "99"]


def test_only_whole_lines_are_given(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("a\nb")
    with Tail(file) as end, file.open("a") as writer:
        assert end.last(5) == ["a"]
        assert end.more() == []
        writer.write("c\nd\n")
        writer.flush()
        assert end.more() == ["bc", "d"]


def test_moved_file_is_read_to_its_end_and_then_its_successor(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("a\n")
    with Tail(file) as end:
        assert end.last(5) == ["a"]
        with file.open("a") as writer:
            writer.write("b\n")
        file.rename(tmp_path / "moved")
        assert end.more() == ["b"]
        assert end.more() == []
        file.write_text("c\n")
        assert end.more() == ["c"]
