from __future__ import annotations

from pathlib import Path

import pytest

from wheels import build


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    return build(tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source"))
