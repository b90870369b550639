"""``[sites.NAME.isolation]``: what it becomes, and what cannot be had of this machine."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from djsup.config import isolation
from djsup.core.model import ControlGroup, Isolation, SiteName

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djsup.config import Loaded, Problem

SITE = """
runtime_dir = "/run/djsup"
[sites.blog]
directory = "{directory}"
python = "/usr/bin/env"
wsgi = "app:application"
listen = ["127.0.0.1:8001"]
{site}
[sites.blog.isolation]
{isolation}
"""
NOTHING, ALL = 0, (1 << 40) - 1


@pytest.fixture
def rights(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have these capabilities, as far as the configuration can tell."""
    return lambda bits: monkeypatch.setattr(isolation, "_capabilities", lambda: bits)


def text(written: str, site: str = "", directory: str = "/usr") -> str:
    return SITE.format(isolation=written, site=site, directory=directory)


@pytest.mark.usefixtures("root")
def test_every_key_arrives(
    load: Callable[[str], Loaded], rights: Callable[[int], None], folder: Path
) -> None:
    rights(ALL)
    loaded = load(
        text(
            'groups = ["daemon"]\numask = "027"\nnice = 5\ncpu_affinity = [0, 0]\nno_new_privs = true\n'
            'private_tmp = true\nread_only = ["blog", "/etc"]\n'
            'rlimits = { nofile = 100, as = "1GiB", core = "unlimited" }',
            'user = "nobody"',
        )
    )
    site = loaded.settings.site(SiteName("blog"))
    assert site is not None
    assert site.isolation == Isolation(
        groups=("daemon",),
        umask=0o027,
        nice=5,
        cpu_affinity=(0,),
        rlimits=(("as", 2**30), ("core", -1), ("nofile", 100)),
        no_new_privs=True,
        private_tmp=True,
        read_only=(str(folder / "blog"), "/etc"),
    )
    assert not [each for each in loaded.warnings if "isolation" in (each.key or "")]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("written", "site", "key", "words"),
    [
        ('groups = ["no-such-group"]', 'user = "nobody"', "groups[0]", "there is no group no-such-group"),
        ('groups = ["daemon"]', "", "groups", "needs user"),
        ('groups = ["daemon"]', 'user = "nobody"', "groups", "only root"),
        ("private_tmp = true", "", "private_tmp", "needs CAP_SYS_ADMIN"),
        ('read_only = ["/etc"]', "", "read_only[0]", "needs CAP_SYS_ADMIN"),
        ('read_only = ["/no/such"]', "", "read_only[0]", "/no/such does not exist"),
        ("rlimits = { nproc = 10 }", "", "rlimits.nproc", "above what djsup itself may have (9)"),
        ('umask = "9"', "", "umask", "an octal number"),
        ("nice = 20", "", "nice", "from -20 to 19"),
        ("rlimits = { files = 1 }", "", "rlimits.files", "a limit of setrlimit(2): as, core"),
        ('rlimits = { core = "none" }', "", "rlimits.core", '"unlimited"'),
    ],
)
def test_what_protects_others_and_cannot_be_had_is_a_mistake(
    problems: Callable[[str], list[Problem]],
    rights: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    site: str,
    key: str,
    words: str,
) -> None:
    rights(NOTHING)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (9, 9))
    (found,) = problems(text(written, site))
    assert found.key == f"sites.blog.isolation.{key}"
    assert words in str(found)


@pytest.mark.parametrize(
    ("written", "key", "words"),
    [
        ("nice = -5", "nice", "-5 cannot be had without CAP_SYS_NICE"),
        ("cpu_affinity = [1023]", "cpu_affinity", "djsup may use none of [1023]"),
        ("cpu_affinity = [0, 1023]", "cpu_affinity", "djsup may not use [1023]; the site runs on the others"),
    ],
)
def test_comfort_that_cannot_be_had_is_a_warning(
    load: Callable[[str], Loaded],
    rights: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    written: str,
    key: str,
    words: str,
) -> None:
    rights(NOTHING)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    loaded = load(text(written))
    (found,) = [each for each in loaded.warnings if each.key == f"sites.blog.isolation.{key}"]
    assert words in str(found)


def test_limits_for_the_whole_site_arrive_where_the_kernel_can_have_them_and_are_a_mistake_elsewhere(
    load: Callable[[str], Loaded], problems: Callable[[str], list[Problem]], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = text('cgroup = { memory_max = "1GiB", cpu_max = 1.5, pids_max = 200 }')
    monkeypatch.setattr(isolation, "_controllers_elsewhere", lambda: frozenset({"cpuset"}))
    site = load(written).settings.site(SiteName("blog"))
    assert site is not None
    assert site.isolation.cgroup == ControlGroup(memory_max=2**30, cpu_max=1.5, pids_max=200)
    monkeypatch.setattr(isolation, "_controllers_elsewhere", lambda: frozenset({"memory"}))
    (found,) = problems(written)
    assert found.key == "sites.blog.isolation.cgroup.memory_max"
    assert "memory controller in those of version 1" in str(found)


@pytest.mark.usefixtures("root")
def test_a_private_tmp_that_would_hide_the_site_itself_is_a_mistake(
    problems: Callable[[str], list[Problem]], rights: Callable[[int], None]
) -> None:
    rights(ALL)
    (found,) = problems(text("private_tmp = true", directory="/var/tmp"))
    assert "would hide directory from the site: /var/tmp is in /var/tmp" in str(found)


@pytest.mark.usefixtures("root")
def test_a_site_that_runs_as_the_dashboards_user_is_warned_of(load: Callable[[str], Loaded]) -> None:
    for dashboard, warned in (("", True), ('user = "daemon"', False)):
        loaded = load(text("", 'user = "nobody"') + f"[dashboard]\n{dashboard}\n")
        found = [each for each in loaded.warnings if "can act as an operator" in (each.hint or "")]
        assert bool(found) is warned
