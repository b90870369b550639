from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.conftest import make_site, subreaper, worker_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_site", "subreaper", "worker_folder"]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A folder for the temporary files of a site."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder
