"""From a file's name to settings, or to every mistake in it at once. Never prints, never exits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djsup.config.check import check
from djsup.config.documents import read
from djsup.config.problem import ConfigError, Problem, in_order
from djsup.config.settle import settle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djsup.core.model import Settings


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration."""

    settings: Settings
    warnings: tuple[Problem, ...] = ()
    """What the owner should know though it is valid, each with its place."""


def load(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Loaded:
    """Read, check and settle a configuration file and all that it includes.

    Args:
        path: the file.
        environ: the environment that ``${VAR}`` and ``~`` are filled in from.

    Raises:
        ConfigError: with every mistake that was found.
    """
    documents = read(os.fspath(path), environ)
    if not documents.is_read:
        raise ConfigError(documents.problems)
    settings, warnings = settle(check(documents), documents)
    if documents.problems:
        raise ConfigError(documents.problems)
    return Loaded(settings, in_order(warnings))
