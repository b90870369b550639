"""The stage between the daemon and a site's interpreter: takes rights and limits away, then becomes the interpreter.

    PYTHON -I -S jail.py FD

Run by the daemon's own interpreter, from a folder that only the daemon can write, with an empty environment: until it
has dropped its rights nothing here may come from the site, whose virtualenv and whose environment belong to a user
who must not become root. What is to be done comes as JSON through FD, the environment with it.

A file of its own that imports nothing of djsup: a copy of it lies in the worker's folder. What cannot be had ends it
with STATUS and one line on standard error, but for what only makes for comfort: that is said, and done without.
"""

import ctypes
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

STATUS = 126
"""As a shell's for what cannot be run."""
SPEC_MAX_BYTES = 16 * 1024 * 1024
SHARED_TMP = ("/tmp", "/var/tmp")  # noqa: S108 -- what is to be hidden

# Numbers of unshare(2), mount(2), statvfs(3) and prctl(2).
CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC = 1 << 10, 1 << 11, 1 << 12, 1 << 14
MS_SLAVE, MS_RELATIME = 1 << 19, 1 << 21
ST_RELATIME = 1 << 12
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
_KEPT = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME
"""Flags of a mount that statvfs(3) and mount(2) write alike, to be kept when it is mounted again."""


def main() -> NoReturn:
    """Do what the daemon says, and become the site's interpreter."""
    fd = int(sys.argv[1])
    with os.fdopen(fd, "rb") as file:
        spec: dict[str, Any] = json.loads(file.read(SPEC_MAX_BYTES))
    for name, step in STEPS:
        if spec.get(name) is None:
            continue
        try:
            step(spec[name])
        except (OSError, ValueError) as error:
            if name not in COMFORT:
                fail(f"{name} = {spec[name]} cannot be had: {reason(error)}")
            say(f"{name} = {spec[name]} cannot be had, the site runs without: {reason(error)}")
    try:
        drop_rights(spec)
        os.umask(spec["umask"])
        os.chdir(spec["directory"])
        if spec["orphan_signal"] is not None:  # the change of user has unsaid it
            call("prctl", PR_SET_PDEATHSIG, spec["orphan_signal"], 0, 0, 0)
        if spec["no_new_privs"]:
            call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.execve(spec["arguments"][0], spec["arguments"], spec["environment"])  # noqa: S606 -- what it is for
    except OSError as error:
        fail(f"cannot run {spec['arguments'][0]} in {spec['directory']}: {reason(error)}")


def be_nice(level: int) -> None:
    """Have the scheduler prefer others (setpriority(2))."""
    os.setpriority(os.PRIO_PROCESS, 0, level)


def stay_on(cpus: list[int]) -> None:
    """Run on these processors only (sched_setaffinity(2))."""
    os.sched_setaffinity(0, cpus)


def separate(mounts: dict[str, Any]) -> None:
    """A view of the file system of its own: other /tmp, and paths that cannot be written."""
    call("unshare", CLONE_NEWNS)
    # What is mounted outside later is seen here, but not the other way round.
    call("mount", None, b"/", None, MS_SLAVE | MS_REC, None)
    private_tmp = mounts["private_tmp"]
    if private_tmp is not None:
        # It lies in what it is to hide: it is held on to, and reached through its descriptor.
        private_tmp = f"/proc/self/fd/{os.open(private_tmp, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}"
    for path in mounts["read_only"]:
        if path != "/":  # which is there, and nothing can be put in its place
            bind(path, path)
        for inner in mounts_below(path):
            make_read_only(inner)
    if private_tmp is not None:
        for path in SHARED_TMP:
            if Path(path).is_dir() and not Path(path).is_symlink():
                bind(private_tmp, path)


def bind(source: str, target: str) -> None:
    """Have one folder appear in the place of another."""
    call("mount", os.fsencode(source), os.fsencode(target), None, MS_BIND | MS_REC, None, path=target)


def make_read_only(path: str) -> None:
    """Mount what is mounted there again, its other flags as they are."""
    found = os.statvfs(path).f_flag
    flags = found & _KEPT | (MS_RELATIME if found & ST_RELATIME else 0)
    call("mount", None, os.fsencode(path), None, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, None, path=path)


def mounts_below(path: str) -> list[str]:
    """Every place at or below a path at which something is mounted (proc(5), mountinfo)."""
    path = os.path.realpath(path)
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as file:
        places = [unescape(line.split(" ")[4]) for line in file]
    return sorted({place for place in places if place == path or place.startswith(path.rstrip("/") + "/")})


def unescape(text: str) -> str:
    """The path that mountinfo writes with blanks and the like as octal numbers."""
    for written, meant in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(written, meant)
    return text


def limit(limits: dict[str, int]) -> None:
    """Resource limits, soft and hard (setrlimit(2)); -1: none."""
    for name, most in limits.items():
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (most, most))
        except (OSError, ValueError) as error:
            raise ValueError(f"{name}: {reason(error)}") from error


def drop_rights(spec: dict[str, Any]) -> None:
    """Become the site's user, for good."""
    if spec["uid"] is None:
        return
    os.setgroups(spec["groups"])
    os.setresgid(spec["gid"], spec["gid"], spec["gid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])


def call(name: str, *arguments: Any, path: str = "") -> None:
    """Call a function of the C library.

    Raises:
        OSError: it gives -1.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Flags and numbers are unsigned long in some of them: an int in its place may bring garbage along.
    given = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    if getattr(libc, name)(*given) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}", path or None)


def reason(error: Exception) -> str:
    """Why, in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f" ({error.filename})" if error.filename else "")
    return str(error)


def say(text: str) -> None:
    """One line to the site's log."""
    sys.stderr.write(f"djsup: {text}\n")
    sys.stderr.flush()


def fail(text: str) -> NoReturn:
    """What has to be cannot be had: the site does not run without."""
    say(text)
    os._exit(STATUS)


def join(members: str) -> None:
    """Become one of a control group (cgroups v2)."""
    Path(members).write_text("0")


STEPS: tuple[tuple[str, Callable[[Any], None]], ...] = (
    ("cgroup", join),
    ("nice", be_nice),
    ("cpu_affinity", stay_on),
    ("mounts", separate),
    ("rlimits", limit),
)
"""In this order, before the rights are dropped: some need them."""
COMFORT = frozenset({"nice", "cpu_affinity"})

if __name__ == "__main__":
    main()
