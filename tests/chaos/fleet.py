"""The daemon that faults are injected into, and its sites: real processes in a folder of their own.

Three sites: the example blog (Django, from a template, with a program), ``forked`` (a bare function, from a template;
as another user where we are root) and ``plain`` (a bare function whose workers each load it, no template).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from djsup.client import ClientError
from system.daemon import DaemonUnderTest, wait_for

ROOT = Path(__file__).resolve().parents[2]
PROMISES = {"blog": 2, "forked": 3, "plain": 2}
"""Workers of each site."""
DISK_BYTES = 24 * 2**20
SETTLED_S = 60.0
"""The longest time in which all must be well again after a fault, backoff included."""
OTHER_USER = "nobody"
SERVING = {"idle", "busy"}

APP = '''
"""A site that does what the chaos asks of it. Every answer names the process that gave it."""
import hashlib, os, random, resource, socket, time

VERSION = {version!r}

def garbage(rng):
    """One datagram that no worker would send."""
    valid = [
        b'{{"kind": "Loaded"}}', b'{{"kind": "Ready"}}', b'{{"kind": "Ready", "pid": "me"}}', b'{{"kind": "Hello"}}',
        b'{{"kind": "Drain", "timeout_s": 0.0}}', b'{{"kind": "Fork", "proc": 1, "slot": 0}}', b'{{"kind": []}}',
        b'{{"kind": "ForkFailed", "proc": 99, "error": "none"}}', b"[]", b"null", b"[" * 5000, b'{{"kind": "Nothing"}}',
    ]
    return rng.choice([rng.randbytes(rng.randrange(1, 2000)), rng.choice(valid), b"x" * 100_000])

def babble(number):
    """Write garbage into every channel that this process holds."""
    rng, sent = random.Random(number), 0
    for name in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with sock:
            if sock.family == socket.AF_UNIX and sock.type & 0xF == socket.SOCK_SEQPACKET:
                for _ in range(number):
                    try:
                        sock.send(garbage(rng), socket.MSG_DONTWAIT)
                        sent += 1
                    except OSError:
                        pass
    return sent

def hoard(seconds):
    """Take every descriptor that there is, for a while."""
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        time.sleep(seconds)
    finally:
        for fd in taken:
            os.close(fd)
    return len(taken)

def application(environ, start_response):
    path, status = environ["PATH_INFO"], "200 OK"
    if path == "/babble":
        body = str(babble(300)).encode()
    elif path == "/hoard":
        body = str(hoard(1.0)).encode()
    elif path == "/big":
        body = str(len(bytearray(64 * 2**20))).encode()
    elif path == "/slow":
        time.sleep(0.3)
        body = b"slow"
    elif path == "/upload":
        body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
    else:
        body = VERSION.encode()
    start_response(status, [("Content-Length", str(len(body))), ("X-Pid", str(os.getpid()))])
    return [body]
'''

BLOG = """
import os, sys
sys.path.insert(0, {blog!r})
os.environ["DJANGO_SETTINGS_MODULE"] = "blog.settings"
from django.core.wsgi import get_wsgi_application
django = get_wsgi_application()

def application(environ, start_response):
    def start(status, headers, *error):
        return start_response(status, [*headers, ("X-Pid", str(os.getpid()))], *error)
    return django(environ, start)
"""

PROGRAM = "import time\nwhile True:\n    print('the program runs', flush=True)\n    time.sleep(1)\n"


class _OnSmallDisk(DaemonUnderTest):
    """Its events, its estates and its logs lie where there is little room."""

    @property
    def runtime(self) -> Path:
        return self.folder / "disk" / "run"

    @property
    def log(self) -> str:
        own = self.folder / "disk" / "log" / "djsup.log"
        return super().log + (own.read_text(errors="replace") if own.exists() else "")


@dataclass
class Fleet:
    """One daemon and its sites."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="djsup-chaos-")))
    deploys: int = 0

    def __post_init__(self) -> None:
        self.folder.chmod(0o755)
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        self.disk_is_small = os.geteuid() == 0 and _mount(self.disk)
        """Whether the disk can be filled: it is a tmpfs of its own, which takes root to mount."""
        self.disk.chmod(0o755)
        (self.disk / "log").mkdir()
        self.temporary = self.disk / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o1777)
        self.daemon = _OnSmallDisk(self.folder)
        self.daemon.top = f'orphan_grace = 30\n[log]\ndirectory = "{self.disk}/log"\naccess = "json"'
        self.other_user = self._other_user()
        self.ports = {name: self._configure(name) for name in PROMISES}

    def _other_user(self) -> str | None:
        """Somebody else for one site, with an interpreter that he may run: so the limits of a user bind it."""
        python = Path("/usr/bin/python3")
        if os.geteuid() != 0 or not python.exists():
            return None
        question = f"import sys; print(sys.version_info[:2] == {sys.version_info[:2]})"
        said = subprocess.run([python, "-c", question], capture_output=True, text=True, check=False).stdout
        return OTHER_USER if said.strip() == "True" else None

    def _configure(self, name: str) -> int:
        folder = self.folder / name
        folder.mkdir(mode=0o755)
        more = f'workers = {PROMISES[name]}\nenv = {{ TMPDIR = "{self.temporary}" }}\n'
        limits = (
            f"[sites.{name}.limits]\nrequest_timeout = 3\ndrain_timeout = 3\nstable_after = 0.5\nboot_timeout = 20\n"
            f"[sites.{name}.reload]\nkeep_previous = 1\n"
        )
        if name == "blog":
            (folder / "blog_wsgi.py").write_text(BLOG.format(blog=str(ROOT / "examples/blog")))
            (folder / "program.py").write_text(PROGRAM)
            more += 'wsgi = "blog_wsgi:application"\nhealth.path = "/healthz"\n' + limits
            more += '[sites.blog.programs.clock]\ncommand = "python program.py"\n'
            return self.daemon.site(name, ROOT / "examples/blog/.venv/bin/python", folder, more=more)
        self.deploy(name)
        python = Path(sys.executable)
        more += 'wsgi = "app:application"\nhealth.path = "/"\n'
        if name == "plain":
            more += "preload = false\n"
        elif self.other_user is not None:
            python = Path("/usr/bin/python3")
            more += f'user = "{self.other_user}"\n'
        return self.daemon.site(name, python, folder, more=more + limits)

    def deploy(self, name: str, *, broken: bool = False) -> None:
        """Write another version of a bare site."""
        self.deploys += 1
        code = "raise RuntimeError('a broken deploy')" if broken else APP.format(version=f"v{self.deploys}")
        path = self.folder / name / "app.py"
        path.write_text(code)
        moment = time.time() - 10_000 + self.deploys  # see Project.deploy
        os.utime(path, (moment, moment))

    # --- what it is like -----------------------------------------------------------------------

    def ask(self, verb: str, **arguments: Any) -> Any:
        return self.daemon.ask(verb, **arguments)

    def sites(self) -> dict[str, Any]:
        """The status of each site; empty while the daemon can't say."""
        with suppress(ClientError, OSError):
            return {site["name"]: site for site in self.ask("status")["sites"]}
        return {}

    def workers(self, site: str) -> list[int]:
        found = wait_for(lambda: self.sites().get(site), f"the status of {site}")
        return [each["pid"] for each in found["workers"] if each["state"] in SERVING]

    def template(self, site: str) -> int | None:
        found = wait_for(lambda: self.sites().get(site), f"the status of {site}")
        return next((each["pid"] for each in found["templates"] if each["state"] == "loaded"), None)

    def unwell(self, gone: frozenset[int] = frozenset()) -> str:
        """What is not as it should be; "": all is well. ``gone``: processes that nothing may count on any more."""
        sites = self.sites()
        if set(sites) != set(PROMISES):
            return f"the daemon tells of {sorted(sites)}"
        for name, promise in PROMISES.items():
            site = sites[name]
            serving = [each["pid"] for each in site["workers"] if each["state"] in SERVING]
            if site["state"] != "serving" or len(serving) != promise or gone & set(serving):
                return f"{name} is {site['state']}, {len(serving)} of {promise} workers: {site['error']}"
            if name != "plain" and [each["state"] for each in site["templates"]] != ["loaded"]:
                return f"{name} has templates {site['templates']}"
            if gone & {each["pid"] for kind in ("templates", "programs") for each in site[kind]}:
                return f"{name} counts on a process that is gone"
            if not (self.daemon.runtime / "estates" / f"{name}.json").exists():
                return f"{name} could not be adopted if the daemon were killed now"
            if any(each["state"] != "running" for each in site["programs"]):
                return f"{name} has programs {site['programs']}"
        return ""

    # --- what it leaves ------------------------------------------------------------------------

    def processes(self) -> dict[int, psutil.Process]:
        """Every living process of this fleet but the daemon, whoever its parent is now."""
        found = {}
        marks = (str(self.folder), str(self.daemon.runtime))
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid in (os.getpid(), self.daemon.pid) or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                words = " ".join(process.cmdline())
                where = process.cwd()
                if any(mark in words or where.startswith(mark) for mark in marks):
                    found[process.pid] = process
        return found

    def known(self) -> set[int]:
        """Every process that the daemon tells of."""
        pids = set()
        for site in self.sites().values():
            for kind in ("workers", "templates", "programs"):
                pids |= {each["pid"] for each in site[kind] if each["pid"]}
        return pids

    def temporary_files(self) -> list[str]:
        return sorted(each.name for each in self.temporary.iterdir())

    def close(self) -> None:
        """End what is left and give the folder back."""
        self.daemon.stop()
        for process in self.processes().values():
            with suppress(psutil.Error):
                process.kill()
        if self.disk_is_small:
            subprocess.run(["umount", "--lazy", self.disk], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _mount(folder: Path) -> bool:
    """Mount a small tmpfs; False: it is not allowed here, as in a container without CAP_SYS_ADMIN."""
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "djsup-chaos", str(folder)]
    return subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0


def ports_held(pid: int, port: int) -> frozenset[int]:
    """The clients' ports of the connections that a process holds on a listener (proc(5): net/tcp)."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if found := re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink())):
                inodes.add(found[1])
    held = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and int(fields[1].split(":")[1], 16) == port:
            held.add(int(fields[2].split(":")[1], 16))
    return frozenset(held - {0})
