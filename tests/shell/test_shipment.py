from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from djsup.shell.shipment import lay_out


def test_the_folder_has_the_worker_and_the_parser_for_the_same_python(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "worker")
    assert (folder / "__main__.py").is_file()
    assert (folder / "djsup_worker" / "messages.py").is_file()
    lent = folder / "lent" / str(sys.implementation.cache_tag) / "httptools"
    assert (lent / "__init__.py").is_file()
    assert (folder / "lent" / "any" / "whitenoise" / "__init__.py").is_file()
    assert not (folder / "djsup").exists()


def test_laying_out_again_leaves_nothing_of_the_old_folder(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "worker")
    (folder / "left-over.py").touch()
    lay_out(folder)
    assert not (folder / "left-over.py").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["worker"]


def test_every_user_may_read_it_and_only_its_owner_may_write(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "worker")
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o444 == 0o444, path
        assert mode & 0o022 == 0, path


def test_a_folder_that_is_as_it_should_be_stays(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "worker")
    before = folder.stat().st_ino
    assert lay_out(folder).stat().st_ino == before


@pytest.mark.parametrize("name", ["__main__.py", "djsup_worker/loop.py"])
def test_a_folder_with_another_or_unreadable_file_is_made_anew(tmp_path: Path, name: str) -> None:
    folder = lay_out(tmp_path / "worker")
    right = (folder / name).read_bytes()
    (folder / name).write_bytes(b"# another")
    lay_out(folder)
    assert (folder / name).read_bytes() == right
    (folder / name).chmod(0o600)
    lay_out(folder)
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o644
