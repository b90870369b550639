"""How a program is run: which file, which environment."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from djsup import launch
from djsup.core.model import ProgramSettings, SiteName, SiteSettings
from djsup.shell.processes import CannotRun


@pytest.fixture
def site(tmp_path: Path) -> SiteSettings:
    """A site with a virtualenv that has a program "celery" in it."""
    scripts = tmp_path / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    for name in ("python", "celery"):
        (scripts / name).write_text("#!/bin/sh\n")
        (scripts / name).chmod(0o755)
    return SiteSettings(
        SiteName("blog"), str(tmp_path), str(scripts / "python"), (), settings="blog.settings"
    )


def words(site: SiteSettings, command: str) -> list[str]:
    return list(launch.command(site, ProgramSettings("x", command), 0, 1, 2).arguments)


def environment(site: SiteSettings, program: ProgramSettings, notify: str | None = None) -> dict[str, str]:
    return dict(launch.command(site, program, 3, 1, 2, notify).environment)


def test_names_are_looked_up_in_the_virtualenv_first_then_on_path(site: SiteSettings) -> None:
    assert words(site, "celery worker") == [f"{site.directory}/.venv/bin/celery", "worker"]
    assert words(site, "sh -c true")[0].endswith("/bin/sh")


def test_a_path_is_one_from_the_sites_directory(site: SiteSettings) -> None:
    assert words(site, "./bin/mail -q")[0] == f"{site.directory}/bin/mail"
    assert words(site, "/usr/bin/env x")[0] == "/usr/bin/env"


def test_words_are_split_as_a_shell_does_it_and_no_shell_expands_them(site: SiteSettings) -> None:
    assert words(site, """celery 'a b' "c  d" e\\ f $HOME *.py; true""")[1:] == [
        "a b", "c  d", "e f", "$HOME", "*.py;", "true",
    ]  # fmt: skip


def test_program_that_is_nowhere_is_named(site: SiteSettings) -> None:
    with pytest.raises(CannotRun, match=r"there is no program 'no-such-thing' in .*/\.venv/bin or on PATH"):
        words(site, "no-such-thing")


def test_environment_is_the_sites_with_the_programs_on_top(site: SiteSettings) -> None:
    site = replace(site, env=(("A", "site"), ("B", "site")))
    seen = environment(site, ProgramSettings("celery", "celery", env=(("B", "own"), ("PATH", "/opt"))))
    assert (seen["A"], seen["B"]) == ("site", "own")
    assert seen["PATH"] == f"{site.directory}/.venv/bin:/opt"
    assert seen["VIRTUAL_ENV"] == f"{site.directory}/.venv"
    assert seen["DJANGO_SETTINGS_MODULE"] == "blog.settings"
    assert (seen["DJSUP_PROGRAM"], seen["DJSUP_INSTANCE"]) == ("celery", "3")
    assert "NOTIFY_SOCKET" not in seen


def test_own_settings_module_of_a_program_is_kept(site: SiteSettings) -> None:
    own = ProgramSettings("celery", "celery", env=(("DJANGO_SETTINGS_MODULE", "blog.celery_settings"),))
    assert environment(site, own)["DJANGO_SETTINGS_MODULE"] == "blog.celery_settings"


def test_watchdog_is_told_in_microseconds(site: SiteSettings) -> None:
    seen = environment(site, ProgramSettings("celery", "celery", watchdog_s=2.5), "/run/n")
    assert (seen["NOTIFY_SOCKET"], seen["WATCHDOG_USEC"]) == ("/run/n", "2500000")


def test_interpreter_outside_a_virtualenv_has_none(site: SiteSettings, tmp_path: Path) -> None:
    (tmp_path / ".venv" / "pyvenv.cfg").unlink()
    assert "VIRTUAL_ENV" not in environment(site, ProgramSettings("x", "celery"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a program as somebody else")
def test_program_runs_as_its_own_user_in_that_users_groups_else_as_the_sites(site: SiteSettings) -> None:
    nobody = pwd.getpwnam("nobody")
    own = launch.command(site, ProgramSettings("x", "celery", user="nobody"), 0, 1, 2).identity
    assert (own.uid, own.gid, own.home) == (nobody.pw_uid, nobody.pw_gid, nobody.pw_dir)
    assert own.groups == tuple(os.getgrouplist("nobody", nobody.pw_gid))
    of_site = launch.command(replace(site, user="nobody"), ProgramSettings("x", "celery"), 0, 1, 2).identity
    assert of_site == own
    both = launch.command(
        replace(site, user="root", group="root"), ProgramSettings("x", "celery", user="nobody"), 0, 1, 2
    )
    assert both.identity == own


def test_unknown_user_is_an_error_of_the_program(site: SiteSettings) -> None:
    with pytest.raises(CannotRun, match="no-such-user"):
        launch.command(site, ProgramSettings("x", sys.executable, user="no-such-user"), 0, 1, 2)
