from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from djsup.cli import cli
from djsup.cli.systemd import _quoted

CONFIG = """
orphan_grace = 20
[sites.blog]
directory = "blog"
python = "{python}"
listen = ["127.0.0.1:8001", "fd:web"]
wsgi = "app:application"
[sites.blog.limits]
boot_timeout = 70
drain_timeout = 40
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "blog").mkdir()
    file = tmp_path / "djsup.toml"
    file.write_text(CONFIG.format(python=sys.executable))
    return file


def printed(config: Path, *more: str) -> str:
    result = CliRunner().invoke(cli, ["systemd", "-c", str(config), *more])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_unit_fits_the_configuration(config: Path) -> None:
    text = printed(config, "--systemd-version", "255")
    for line in (
        "Type=notify-reload",
        f"start -c {config}",
        "KillMode=process",
        "TimeoutStartSec=100",
        "TimeoutStopSec=55",
        "Sockets=djsup-web.socket",
        "FileDescriptorName=web",
    ):
        assert line in text, text


def test_sockets_that_sites_share_have_units_too(config: Path) -> None:
    text = config.read_text()
    own = 'listen = ["127.0.0.1:8001", "fd:web"]\n'
    blog = text[text.index("[sites.blog]") : text.index("[sites.blog.limits]")].replace(own, "")
    shared = text.replace(own, 'hosts = ["blog.example"]\n')
    config.write_text(
        f'listen = ["fd:web"]\n{shared}{blog.replace("sites.blog", "sites.shop")}default = true\n'
    )
    text = printed(config)
    for line in ("Requires=djsup-web.socket", "Sockets=djsup-web.socket", "FileDescriptorName=web"):
        assert line in text, text


def test_an_older_systemd_reloads_by_the_command(config: Path) -> None:
    text = printed(config, "--systemd-version", "252")
    assert "Type=notify\n" in text
    assert f"reload -c {config}" in text


def test_words_are_quoted_as_systemd_reads_them() -> None:
    assert _quoted("/srv/a b/%x.toml") == '"/srv/a b/%%x.toml"'
    assert _quoted("/srv/plain.toml") == "/srv/plain.toml"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (package systemd)")
def test_systemd_finds_nothing_wrong_with_the_units(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    printed(config, "--into", str(folder))
    files = sorted(str(each) for each in folder.iterdir())
    assert [Path(each).name for each in files] == ["djsup-web.socket", "djsup.service"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "djsup" in line], done.stderr
