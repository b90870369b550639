"""Tokens are rotated by their file alone, and nothing odd in it locks anybody out."""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from pathlib import Path

import pytest

from djsup.core.actions import Level
from djsup.core.model import Address, AddressKind, DashboardSettings
from djsup.doorkeeper import Doorkeeper

ADDRESS = Address(AddressKind.TCP, "127.0.0.1", 9000)


class Room:
    """A doorkeeper with two files."""

    def __init__(self, folder: Path) -> None:
        self.said: list[tuple[str, Level]] = []
        self.full, self.looking = folder / "token", folder / "read-token"
        self.keeper = Doorkeeper(lambda kind, _text, level: self.said.append((kind, level)))
        self.keeper.adopt(DashboardSettings(ADDRESS, str(self.full), read_token_file=str(self.looking)))
        self._moment = 1_700_000_000

    def write(self, file: Path, text: str) -> None:
        file.write_text(text)
        self._moment += 1
        os.utime(file, (self._moment, self._moment))

    def look(self) -> None:
        self.keeper.look()
        self.keeper.look()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def hashes(*tokens: str) -> list[str]:
    return [sha256(token.encode()).hexdigest() for token in tokens]


def test_both_files_are_made_at_the_first_start_with_a_token_each(room: Room) -> None:
    known = room.keeper.read()
    assert known == {
        "full": hashes(room.full.read_text().strip()),
        "read": hashes(room.looking.read_text().strip()),
    }
    assert known["full"] != known["read"]
    assert {file.stat().st_mode & 0o777 for file in (room.full, room.looking)} == {0o600}


def test_another_token_in_the_file_is_the_one_that_is_valid(room: Room) -> None:
    room.keeper.read()

    async def main() -> None:
        told = asyncio.ensure_future(room.keeper.change())
        await asyncio.sleep(0)
        room.write(room.full, "new\nold until tomorrow\n")
        room.keeper.look()  # it may still be being written
        assert room.keeper.hashes()["full"] != hashes("new", "old until tomorrow")
        room.keeper.look()
        assert room.keeper.hashes()["full"] == hashes("new", "old until tomorrow")
        await asyncio.wait_for(told, 5)

    asyncio.run(main())
    assert room.said == [("tokens-changed", Level.INFO)]


@pytest.mark.parametrize("wrong", ["", "# nobody\n", "\udcff", "\n".join(map(str, range(100)))])
def test_a_file_that_is_of_no_use_changes_nothing_and_is_said_once(room: Room, wrong: str) -> None:
    before = room.keeper.read()
    room.full.write_bytes(wrong.encode("utf-8", "surrogateescape"))
    os.utime(room.full, (1, 1))
    for _ in range(3):
        room.look()
    assert room.keeper.hashes() == before
    assert room.said == [("tokens-refused", Level.ERROR)]
    room.write(room.full, "right again")
    room.look()
    assert room.keeper.hashes()["full"] == hashes("right again")


def test_a_file_that_is_gone_is_not_made_anew_and_its_tokens_stay(room: Room) -> None:
    before = room.keeper.read()
    room.looking.unlink()
    room.look()
    assert room.keeper.hashes() == before
    assert not room.looking.exists()
    assert room.said == [("tokens-refused", Level.ERROR)]


def test_without_a_dashboard_there_is_nothing_to_look_at(room: Room) -> None:
    room.keeper.read()
    room.keeper.adopt(None)
    room.look()
    assert room.keeper.hashes() == {"full": [], "read": []}
