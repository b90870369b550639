from __future__ import annotations

from worker.conftest import subreaper

__all__ = ["subreaper"]
