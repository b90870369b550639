from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from djsup import config
from djsup.config import find

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(find, "SYSTEM", tmp_path / "etc.toml")
    return tmp_path / "etc.toml"


def test_named_file_goes_before_variable_before_folder_before_system(
    tmp_path: Path, system_file: Path
) -> None:
    environ = {"DJSUP_CONFIG": "variable.toml"}
    assert config.find_file(None, {}, tmp_path) is None
    system_file.touch()
    assert config.find_file(None, {}, tmp_path) == system_file
    (tmp_path / "djsup.toml").touch()
    assert config.find_file(None, {}, tmp_path) == tmp_path / "djsup.toml"
    assert config.find_file(None, environ, tmp_path) == tmp_path / "variable.toml"
    assert config.find_file("/x/named.toml", environ, tmp_path).__str__() == "/x/named.toml"


def test_daemon_is_found_while_its_configuration_is_full_of_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "djsup.toml"
    file.write_text('runtime_dir = "run"\nnonsense = 1\n[sites.blog]\nthreads = "${NOPE}"\n')
    assert config.runtime_dir_of(file, {}) == str(tmp_path / "run")


def test_runtime_dir_may_stand_in_an_included_file(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.toml").write_text('runtime_dir = "~/r"')
    (tmp_path / "djsup.toml").write_text('include = ["x/*.toml"]')
    assert config.runtime_dir_of(tmp_path / "djsup.toml", {"HOME": "/home/x"}) == "/home/x/r"


def test_runtime_dir_that_is_not_named_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "djsup.toml").write_text("x = 1")
    environ = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert config.runtime_dir_of(tmp_path / "djsup.toml", environ) == config.default_runtime_dir(environ)


@pytest.mark.parametrize("text", ["a =", "runtime_dir = 3", 'runtime_dir = "${NOPE}"', None])
def test_runtime_dir_that_cannot_be_told_is_an_error(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "djsup.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(config.ConfigError) as caught:
        config.runtime_dir_of(file, {})
    assert len(caught.value.problems) == 1


def test_finding_a_daemon_does_not_import_the_schema() -> None:
    code = "import sys; from djsup import config; config.find_file; print('pydantic' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout == "False\n"
