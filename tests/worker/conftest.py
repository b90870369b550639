from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from worker import harness, interpreters
from worker.harness import Site
from worker.interpreters import Interpreter, Missing

MakeSite = Callable[..., Site]


@pytest.fixture(scope="session", autouse=True)
def subreaper() -> None:
    harness.become_subreaper()


@pytest.fixture(scope="session")
def worker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness.lay_out(tmp_path_factory.mktemp("runtime") / "worker", harness.own_httptools())


@pytest.fixture(params=interpreters.VERSIONS)
def interpreter(request: pytest.FixtureRequest) -> Interpreter:
    """Every Python that djsup's worker is written for."""
    found = interpreters.find(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} on this machine")
    return found


@pytest.fixture
def folder_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Interpreter], Path]:
    """The worker's folder with httptools lent to an interpreter."""

    def lay_out(interpreter: Interpreter) -> Path:
        try:
            packages = interpreters.packages(interpreter, interpreters.HTTPTOOLS)
        except Missing as missing:
            pytest.skip(f"no httptools for Python {interpreter.version}: {missing}")
        return harness.lay_out(
            tmp_path_factory.mktemp("runtime") / "worker", {interpreter.cache_tag: packages}
        )

    return lay_out


@pytest.fixture
def make_site(tmp_path: Path, worker_folder: Path) -> Iterator[MakeSite]:
    """Make a site out of the source of its app.py."""
    made: list[Site] = []

    def make(source: str, *, python: str | None = None, folder: Path | None = None, **boot: Any) -> Site:
        import sys  # noqa: PLC0415

        directory = tmp_path / f"site{len(made)}"
        directory.mkdir()
        (directory / "app.py").write_text(dedent(source))
        made.append(Site(folder or worker_folder, directory, python or sys.executable, **boot))
        return made[-1]

    def another(site: Site) -> Site:
        made.append(harness.next_generation(site))
        return made[-1]

    make.another = another  # type: ignore[attr-defined]
    yield make
    for site in made:
        site.close()
