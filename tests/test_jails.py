"""The stage before a site's interpreter: what it takes away is gone, and what cannot be had is said."""

from __future__ import annotations

import json
import os
import pwd
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from djsup import jail, jails
from djsup.core.model import Isolation, SiteName
from djsup.shell import processes
from djsup.shell.private_folders import PrivateFolders
from djsup.shell.processes import Command, Identity

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process another view of the files")
SEE = """
import json, os, resource
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "uid": os.getresuid(), "groups": os.getgroups(), "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "cpus": sorted(os.sched_getaffinity(0)), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "no_new_privs": status["NoNewPrivs"].strip(),
    "umask": status["Umask"].strip(), "tmp": sorted(os.listdir("/tmp")), "environ": dict(os.environ),
    "cwd": os.getcwd(), "fds": sorted(os.listdir("/proc/self/fd")), "capabilities": status["CapEff"].strip(),
}))
"""
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


def run(
    code: str, isolation: Isolation, *, user: str | None = None, tmp: str | None = None, directory: str = "/"
) -> subprocess.CompletedProcess[str]:
    """What a process so isolated prints, and how it ends."""
    identity = Identity.of(user, None, isolation.groups)
    stage = jails.Jail(Path(jail.__file__), isolation, tmp)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        command = Command(
            (PYTHON, "-I", "-c", code), directory, {"SECRET": "s3cret", "LD_PRELOAD": ""}, identity,
            out.fileno(), err.fileno(), (), umask=isolation.umask, jail=stage,
        )  # fmt: skip
        status = processes.start(command).wait(30)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess((), status, out.read().decode(), err.read().decode())


def see(isolation: Isolation, **how: Any) -> dict[str, Any]:
    done = run(SEE, isolation, **how)
    assert done.returncode == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_limits_priority_processors_and_umask_are_as_the_settings_say() -> None:
    cpu = min(os.sched_getaffinity(0))
    found = see(
        Isolation(
            umask=0o027,
            nice=7,
            cpu_affinity=(cpu,),
            rlimits=(("core", 0), ("nofile", 200)),
            no_new_privs=True,
        )
    )
    assert (found["nice"], found["cpus"], found["umask"]) == (7, [cpu], "0027")
    assert (found["nofile"], found["core"]) == ([200, 200], [0, 0])
    assert found["no_new_privs"] == "1"


def test_the_site_gets_its_environment_its_directory_and_no_descriptor_of_the_stage() -> None:
    found = see(Isolation(no_new_privs=True), directory="/usr")
    assert found["environ"].items() >= {"SECRET": "s3cret"}.items()
    assert found["cwd"] == "/usr"
    assert len(found["fds"]) == 4, "the three of every process, and the one that lists them"


def test_what_is_not_asked_for_stays_as_it_is() -> None:
    found = see(Isolation(no_new_privs=True))
    assert found["nofile"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
    assert found["nice"] == os.getpriority(os.PRIO_PROCESS, 0)
    assert found["cpus"] == sorted(os.sched_getaffinity(0))


@ROOT
def test_rights_are_dropped_for_good_and_other_groups_are_had() -> None:
    found = see(Isolation(no_new_privs=True, groups=("daemon",)), user="nobody")
    nobody = pwd.getpwnam("nobody")
    assert found["uid"] == [nobody.pw_uid] * 3
    assert set(found["groups"]) == {nobody.pw_gid, 1}
    assert int(found["capabilities"], 16) == 0


@ROOT
def test_a_private_tmp_is_empty_and_what_is_written_there_is_seen_by_nobody_else(tmp_path: Path) -> None:
    folders = PrivateFolders()
    tmp = folders.of(SiteName("blog"))
    isolation = Isolation(private_tmp=True)
    assert see(isolation, tmp=tmp, user="nobody")["tmp"] == []
    name = f"{tmp_path.name}-of-the-site"
    write = f"open('/tmp/{name}', 'w').close(); open('/var/tmp/{name}2', 'w').close()"
    assert run(write, isolation, tmp=tmp, user="nobody").returncode == 0
    assert not Path("/tmp", name).exists()
    assert see(isolation, tmp=tmp, user="nobody")["tmp"] == [name, f"{name}2"], (
        "all processes of a site share it"
    )
    other = run(f"import os; os.listdir({tmp!r})", Isolation(no_new_privs=True), user="daemon")
    assert "PermissionError" in other.stderr
    folders.forget_all()
    assert not Path(tmp).parent.exists()


@ROOT
def test_a_read_only_path_cannot_be_written_by_root_itself_and_outside_it_is_as_before(
    tmp_path: Path,
) -> None:
    (tmp_path / "inner").mkdir()
    isolation = Isolation(read_only=(str(tmp_path),))
    for place in (tmp_path, tmp_path / "inner"):
        done = run(f"open('{place}/file', 'w')", isolation)
        assert "Read-only file system" in done.stderr, done
    (tmp_path / "file").touch()
    assert run(f"print(open('{tmp_path}/file').read())", isolation).returncode == 0
    in_place = run("open('file', 'w')", isolation, directory=str(tmp_path))
    assert "Read-only file system" in in_place.stderr, "nor through the directory that it starts in"


def test_what_cannot_be_had_ends_the_stage_with_one_line_that_says_it() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # Above fs.nr_open even root gets EPERM (setrlimit(2)).
    done = run(SEE, Isolation(rlimits=(("nofile", max(hard, 2**40)),)))
    assert done.returncode == jail.STATUS
    assert done.stdout == ""
    assert done.stderr.startswith("djsup: rlimits")
    assert "cannot be had: nofile" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_interpreter_that_cannot_be_run_is_named() -> None:
    stage = jails.Jail(Path(jail.__file__), Isolation(no_new_privs=True))
    with tempfile.TemporaryFile() as err:
        command = Command(("/no/such/python",), "/", {}, Identity(), err.fileno(), err.fileno(), jail=stage)
        assert processes.start(command).wait(30) == jail.STATUS
        err.seek(0)
        assert b"cannot run /no/such/python in /" in err.read()


def test_comfort_that_cannot_be_had_is_said_and_the_site_runs_without() -> None:
    done = run(SEE, Isolation(cpu_affinity=(1023,)))
    assert done.returncode == 0
    assert "cpu_affinity = [1023] cannot be had, the site runs without" in done.stderr


def test_nothing_of_the_sites_environment_is_there_while_the_stage_has_rights() -> None:
    stage = jails.Jail(Path(jail.__file__), Isolation(no_new_privs=True))
    environment = {"LD_PRELOAD": "/srv/evil.so", "PYTHONSTARTUP": "/srv/evil.py"}
    with stage.command(["/usr/bin/python3"], "/srv", environment, Identity()) as (arguments, fd):
        assert arguments[:3] == [sys.executable, "-I", "-S"]
        assert not any("evil" in each for each in arguments)
        assert json.loads(os.pread(fd, 1 << 16, 0))["environment"] == environment
