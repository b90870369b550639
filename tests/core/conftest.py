"""What the plays have in common."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_rests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change-over goes on at once, so that a play tells its story; but where the rests are the story."""
    name = request.path.name
    if name.startswith("test_playbook_") and name != "test_playbook_rests.py":
        monkeypatch.setattr("djsup.core.workers.REST_S", 0.0)
