"""What the tests of the dashboard in a browser have in their hands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from web_ui.dashboard_process import Dashboard
from web_ui.fake_daemon import FakeDaemonThread


@dataclass
class Fleet:
    """A dashboard process and the fake daemon behind it."""

    dashboard: Dashboard
    fake: FakeDaemonThread
    control: Path
