from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from djsup_worker import boot
from djsup_worker.messages import Loaded, LoadFailed
from worker import harness, interpreters
from worker.applications import HELLO
from worker.harness import client

if TYPE_CHECKING:
    from worker.conftest import MakeSite

LOOKS_AROUND = """
import json
import sys

def application(environ, start_response):
    try:
        import httptools
        found = httptools.__file__
    except ImportError:
        found = None
    data = json.dumps({"path": sys.path, "httptools": found, "worker": "djsup_worker" in sys.modules})
    start_response("200 OK", [])
    return [data.encode()]
"""


def test_a_site_sees_its_own_directory_and_nothing_of_the_workers(make_site: MakeSite) -> None:
    import json  # noqa: PLC0415

    site = make_site(LOOKS_AROUND)
    site.start_worker()
    with client(site) as user:
        seen = json.loads(user.get().body)
    assert seen["path"][0] == str(site.directory)
    assert not [entry for entry in seen["path"] if str(site.worker_folder) in entry]
    assert not (seen["httptools"] or "").startswith(str(site.worker_folder)), (
        "a lent copy is for the worker alone"
    )


def test_without_httptools_the_error_names_the_command(make_site: MakeSite, tmp_path: Path) -> None:
    """A virtualenv without httptools, and a daemon that lends none for it."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True, timeout=60
    )
    folder = harness.lay_out(tmp_path / "worker", {})
    python = str(tmp_path / "venv" / "bin" / "python")
    site = make_site(HELLO, python=python, folder=folder)
    process = site.run("template")
    failed = process.channel.receive(LoadFailed)
    assert f'{python} -m pip install "httptools>=0.6.4,<0.10"' in failed.error
    assert process.exit_status() == 3
    assert "Traceback" not in process.read(), "the owner of a site needs no stack of ours"


def test_an_httptools_of_another_version_is_refused(make_site: MakeSite, tmp_path: Path) -> None:
    folder = harness.lay_out(tmp_path / "worker", {})
    for version, works in (("0.5.0", False), ("0.10.0", False), ("0.9", None)):
        site = make_site(HELLO, folder=folder)
        own = site.directory / "lib"
        shutil.copytree(next(iter(harness.own_httptools().values())) / "httptools", own / "httptools")
        (own / "httptools" / "_version.py").write_text(f'__version__ = "{version}"\n')
        site.environment["PYTHONPATH"] = str(own)
        process = site.run("template")
        if works is None:
            process.channel.receive(Loaded)
        else:
            assert version in process.channel.receive(LoadFailed).error


def test_a_lent_copy_that_does_not_fit_is_no_obstacle(make_site: MakeSite, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "httptools").mkdir(parents=True)
    (broken / "httptools" / "__init__.py").write_text("raise ImportError('built for another machine')\n")
    folder = harness.lay_out(tmp_path / "worker", {str(sys.implementation.cache_tag): broken})
    site = make_site(HELLO, folder=folder)
    site.start_worker()
    with client(site) as user:
        assert user.get().body == b"hello"


def test_a_directory_that_cannot_be_entered_is_told() -> None:
    with pytest.raises(boot.SiteError, match="cannot enter the directory /nowhere"):
        boot.enter_directory("/nowhere")


def test_a_worker_imports_from_the_release_that_it_was_started_in(
    make_site: MakeSite, tmp_path: Path
) -> None:
    """``directory`` and the virtualenv's packages are below a link, which a deploy turns to another folder."""
    application = """
        def application(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] != "/late":
                return []
            import late, package
            return [("%s %s" % (late.RELEASE, package.RELEASE)).encode()]
    """
    current = tmp_path / "current"
    for release in ("old", "new"):
        packages = tmp_path / release / "packages"
        packages.mkdir(parents=True)
        (packages / "package.py").write_text(f"RELEASE = {release!r}\n")
        (tmp_path / release / "late.py").write_text(f"RELEASE = {release!r}\n")
        (tmp_path / release / "app.py").write_text(textwrap.dedent(application))
    current.symlink_to("old")
    site = make_site("", wsgi="app:application")
    site.directory = current
    site.environment["PYTHONPATH"] = str(current / "packages")
    site.start_worker()
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(current)
    with client(site) as user:
        assert user.get("/late").body == b"old old"


def test_interpreters_are_found_by_their_version() -> None:
    found = interpreters.find("{}.{}".format(*sys.version_info))
    assert found is not None
    assert Path(found.path).exists()
    assert interpreters.find("3.2") is None
