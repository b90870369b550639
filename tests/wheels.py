"""Wheels of djsup: built as for a release, made into others, and installed in environments of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD_S = 170.0


def build(folder: Path, source: Path) -> Path:
    """Build the wheel of this tree into a folder, from a copy of the sources."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("supervisor", "web_ui"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def another(wheel: Path, version: str, changed: dict[str, str]) -> Path:
    """The same wheel with another version, and with other contents of some files, by their paths in it."""
    old = distribution("djsup").version
    folder = wheel.parent / version
    folder.mkdir()
    found = folder / wheel.name.replace(old, version)
    info, record = f"djsup-{version}.dist-info", []
    with zipfile.ZipFile(wheel) as read, zipfile.ZipFile(found, "w") as write:
        for name in read.namelist():
            content = read.read(name)
            if name in changed:
                content = changed[name].encode()
            elif name in ("djsup/__init__.py", f"djsup-{old}.dist-info/METADATA"):
                content = content.replace(old.encode(), version.encode(), 1)
            new = name.replace(f"djsup-{old}.dist-info", info)
            if new != f"{info}/RECORD":
                write.writestr(new, content)
                record.append(f"{new},,")
        write.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return found


def make_environment(home: Path) -> dict[str, str]:
    """A virtualenv; what djsup depends on is borrowed from this one, djsup itself is not. Gives what to run it with."""
    venv.create(home, with_pip=False, symlinks=True)
    (borrowed,) = home.glob("lib/python*/site-packages")
    borrowed.joinpath("borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def install(home: Path, wheel: Path) -> None:
    """Install a wheel, over another one if there is one."""
    command = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install"]
    subprocess.run([*command, "--no-deps", "--quiet", str(wheel)], check=True, timeout=BUILD_S)
