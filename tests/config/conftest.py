from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import pytest

from djsup import config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djsup.config import Loaded, Problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a Django project's bones in ``blog`` and ``shop``."""
    for name in ("blog", "shop"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manage.py").touch()
    return tmp_path


@pytest.fixture
def environ(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "XDG_RUNTIME_DIR": "/run/user/7"}


@pytest.fixture
def load(folder: Path, environ: dict[str, str]) -> Callable[[str], Loaded]:
    """Load a configuration from its text."""

    def run(text: str) -> Loaded:
        (folder / "djsup.toml").write_text(textwrap.dedent(text))
        return config.load(folder / "djsup.toml", environ)

    return run


@pytest.fixture
def problems(load: Callable[[str], Loaded]) -> Callable[[str], list[Problem]]:
    """The problems of a configuration; it must have some."""

    def run(text: str) -> list[Problem]:
        with pytest.raises(config.ConfigError) as caught:
            load(text)
        return list(caught.value.problems)

    return run


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> int:
    """Be an ordinary user, as far as the configuration can tell: the owner of this process or uid 65534."""
    uid = os.geteuid() or 65534
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getegid", lambda: uid)
    return uid


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
