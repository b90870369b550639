"""What is built and what is installed."""

import subprocess
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from wheels import ROOT, install, make_environment

PACKAGES = {"djsup", "djsup_worker", "djsup_web"}


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_three_packages_and_nothing_else(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES


def test_wheel_holds_every_file_of_the_sources(names: set[str]) -> None:
    for root in ("supervisor", "web_ui"):
        for path in (ROOT / root).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(ROOT / root).as_posix() in names


def test_wheel_holds_the_dashboards_files(names: set[str]) -> None:
    static = {Path(name).suffix for name in names if name.startswith("djsup_web/static/")}
    assert {".html", ".css", ".js"} <= static


def test_wheel_names_the_command_and_the_licence(wheel: Path, names: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "djsup = djsup.__main__:main" in archive.read(points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_installed_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    environment = make_environment(home)
    install(home, wheel)
    ask = [str(home / "bin/djsup"), "version"]
    done = subprocess.run(
        ask, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert distribution("djsup").version in done.stdout
    where = [str(home / "bin/python"), "-c", "import djsup; print(djsup.__file__)"]
    found = subprocess.run(
        where, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(home)


def test_editable_install_is_this_very_tree() -> None:
    import djsup  # noqa: PLC0415 - which one is found is the question
    import djsup_web  # noqa: PLC0415
    import djsup_worker  # noqa: PLC0415

    for package, root in ((djsup, "supervisor"), (djsup_worker, "supervisor"), (djsup_web, "web_ui")):
        assert package.__file__ is not None
        assert Path(package.__file__).is_relative_to(ROOT / root)
    (command,) = (point for point in distribution("djsup").entry_points if point.group == "console_scripts")
    assert (command.name, command.value) == ("djsup", "djsup.__main__:main")
