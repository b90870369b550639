"""The configuration: TOML in, frozen settings out, every mistake at once with its place.

The way of a file: ``documents`` reads and merges, ``schema`` and ``forms`` say what is allowed,
``check`` reports what is not, ``settle`` makes the settings, ``loaded`` is the result. ``find``
tells which file is meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djsup.config.find import default_runtime_dir, find_file, runtime_dir_of
from djsup.config.problem import ConfigError, Problem

if TYPE_CHECKING:
    from djsup.config.loaded import Loaded, load

__all__ = [
    "ConfigError",
    "Loaded",
    "Problem",
    "default_runtime_dir",
    "find_file",
    "load",
    "runtime_dir_of",
]


def __getattr__(name: str) -> Any:
    """Import the schema, and pydantic with it, only when somebody loads (a tenth of a second)."""
    if name not in ("Loaded", "load"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from djsup.config import loaded  # noqa: PLC0415 -- that is the point

    return getattr(loaded, name)
