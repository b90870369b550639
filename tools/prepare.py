"""``python -m tools.prepare VERB``: everything that a verb of the Makefile needs, made once.

Quick and silent when all is there already. Standard library only.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import axe, debian, example_sites
from tools.interpreters import this_one
from tools.say import Failure, say
from tools.virtualenv import Virtualenv

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / ".cache/log"
VERBS = ("run", "test", "lint", "bench", "fuzz")


def main(arguments: list[str]) -> int:
    """Prepare for the one verb named."""
    if len(arguments) != 1 or arguments[0] not in VERBS:
        sys.stderr.write(f"usage: python -m tools.prepare {'|'.join(VERBS)}\n")
        return 2
    verb = arguments[0]
    os.chdir(ROOT)
    try:
        with _one_at_a_time():
            _prepare(verb)
    except Failure as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    return 0


def _prepare(verb: str) -> None:
    match verb:
        case "run":
            _djsup(dev=False)
            example_sites.prepare(ROOT)
            _introduce()
        case "test":
            programs = {"chromium": "chromium", "slowhttptest": "slowhttptest", "wrk": "wrk"}
            # The proxies that djsup stands behind, and what watches it; the tests run these programs by themselves. The
            # packages nginx-light, haproxy, caddy and prometheus bring a service, too, and Debian starts it where systemd
            # runs: nginx or Caddy, whichever comes first, then answers on port 80. "systemctl disable --now nginx haproxy
            # caddy prometheus" ends them.
            programs |= {
                "apache2": "apache2-bin",
                "caddy": "caddy",
                "curl": "curl",
                "haproxy": "haproxy",
                "nginx": "nginx-light",
                "prometheus": "prometheus",
            }
            debian.want_programs(programs, LOG / "apt.log", "tests that need them are skipped")
            axe.want(ROOT / ".cache/axe", LOG / "axe.log")
            _djsup(dev=True)
            example_sites.prepare(ROOT)
        case "lint":
            _djsup(dev=True)
        case "bench":
            debian.want_programs({"wrk": "wrk"}, LOG / "apt.log", "the benchmark can't do without")
            # Not the package apache2, which starts a service: only the program and what mod_wsgi is built with.
            apache = {"apache2": "apache2-bin", "apxs": "apache2-dev"}
            debian.want_programs(apache, LOG / "apt.log", "mod_wsgi is not measured")
            debian.want_programs({"openssl": "openssl"}, LOG / "apt.log", "TLS is not measured")
            _djsup(dev=False)
            example_sites.prepare(ROOT)
        case "fuzz":
            _djsup(dev=True, fuzz=True)


def _djsup(*, dev: bool, fuzz: bool = False) -> None:
    """The virtualenv that djsup itself runs in, with or without the tools of its tests, and the fuzzer."""
    groups = [name for name, wanted in (("dev", dev), ("fuzz", fuzz)) if wanted]
    names = ["run", "dev", "fuzz"]
    name = groups[-1] if groups else "run"
    Virtualenv(
        path=ROOT / ".venv",
        log=LOG / "djsup.log",
        install=("-e", ".", *(word for group in groups for word in ("--group", group))),
        directory=ROOT,
        sources=(ROOT / "pyproject.toml",),
        name=name,
        implied_by=tuple(names[names.index(name) + 1 :]),
    ).prepare(this_one())


def _introduce() -> None:
    """Say what ``make run`` is about to start, and where to look at it."""
    say("")
    say("  The blog        http://blog.localhost:8001/        its admin: http://blog.localhost:8001/admin/")
    say("  The shop        http://shop.localhost:8001/        its admin: http://shop.localhost:8001/admin/")
    say("  Hello           http://blog.localhost:8001/hello   one address for all three sites")
    say("  The dashboard   http://127.0.0.1:9000/             its token: .cache/dashboard-token")
    say("")
    say(
        '  Both admins have the user "admin" with the password "admin": an example, nothing for the internet.'
    )
    say("  In another terminal: .venv/bin/djsup status -c config.example.toml     Stop with Ctrl-C.")
    say("")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep a second ``make`` from filling the same virtualenv at the same time."""
    lock = ROOT / ".cache/prepare.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another make prepares this folder; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
