"""``djsup start``: the daemon, in the foreground or detached once every site serves or has failed.

With names it starts no daemon, but sites of the one that runs which somebody has stopped: see ``site_orders.py``.
"""

from __future__ import annotations

import json
import os
import select
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from djsup import client
from djsup.cli import figures, output, site_orders
from djsup.cli.verb import DONE, FAILED, TIMED_OUT, Failed, Target, Verb

if TYPE_CHECKING:
    from djsup.config import Loaded
    from djsup.core.model import Settings

LOG_NAME = "daemon.log"
LOG_LINES = 30
LOG_MAX_BYTES = 64 * 1024
WAIT_LEAST_S = 15.0
WAIT_MOST_S = 600.0
LINE_MAX_BYTES = 1024 * 1024


@click.command(
    "start", cls=Verb, examples=("djsup start", "djsup start -c /etc/djsup/djsup.toml -d", "djsup start blog")
)
@click.argument("sites", metavar="[SITE]...", nargs=-1)
@click.option("-d", "--detach", is_flag=True, help="Return once every site serves, or has failed (exit 1).")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    metavar="S",
    help="With -d: wait at most S seconds; else the sum of the sites' boot_timeout, at most 600. With a SITE: 600.",
)
@click.option("--no-wait", is_flag=True, help="With a SITE: do not wait until it serves.")
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--succeed", type=int, hidden=True, help="Go on for the program that ran in this process.")
@click.option("--prove", is_flag=True, hidden=True, help="Only say whether it could.")
@click.pass_context
def command(
    ctx: click.Context,
    sites: tuple[str, ...],
    detach: bool,
    wait_s: float | None,
    no_wait: bool,
    ready_fd: int | None,
    succeed: int | None,
    prove: bool,
) -> None:
    """Run the daemon, or start sites that were stopped.

    With a SITE no daemon is started: the one that runs starts a site again that djsup stop SITE has stopped. Without,
    the daemon begins, and with it every site of the configuration.
    """
    target = ctx.ensure_object(Target)
    if sites:
        if detach:
            raise click.UsageError("-d is for the daemon; a SITE is started by the daemon that runs", ctx)
        ctx.exit(site_orders.start(target, sites, wait_s, wait=not no_wait))
    if no_wait:
        raise click.UsageError("--no-wait is for single sites: djsup start SITE --no-wait", ctx)
    if succeed is not None:
        from djsup.cli.succeed import go_on, prove_it  # noqa: PLC0415 -- as below

        ctx.exit(prove_it(target, succeed) if prove else go_on(target, succeed))
    loaded = target.load()
    settings = loaded.settings
    if target.runtime is not None:
        settings = replace(settings, runtime_dir=target.runtime_dir())
    if detach:
        ctx.exit(_detach(target, settings, loaded, wait_s))
    # The daemon brings asyncio, psutil and structlog along: not before the configuration is valid.
    from djsup.daemon import run  # noqa: PLC0415

    ctx.exit(run(settings, [str(warning) for warning in loaded.warnings], ready_fd=ready_fd))


@dataclass(frozen=True, slots=True)
class Readiness:
    """The line with which a daemon says that every site serves or has failed."""

    ok: bool
    sites: dict[str, str]
    """Each site's state, or why it does not serve."""


def _detach(target: Target, settings: Settings, loaded: Loaded, wait_s: float | None) -> int:
    """Start the daemon in a session of its own, wait for its word, and say what it said."""
    if not target.as_json:
        for warning in loaded.warnings:
            output.console(stderr=True).print(Text(f"{warning}", style="yellow"), soft_wrap=True)
    if wait_s is None:
        boots_s = sum(site.limits.boot_timeout_s for site in settings.sites)
        wait_s = min(WAIT_MOST_S, max(WAIT_LEAST_S, boots_s))
    with suppress(client.ClientError):
        pid = client.Client(settings.runtime_dir).call("ping", timeout_s=2.0)["pid"]
        raise Failed(f"a daemon runs already: pid {pid} has {settings.runtime_dir}; djsup stop ends it")
    log = _open_log(Path(settings.runtime_dir))
    begin = os.fstat(log).st_size
    process, ready = _spawn(settings, log)
    try:
        answer = _wait(ready, time.monotonic() + wait_s)
        if answer is None:
            status = process.wait(timeout=10)
            raise Failed(_tail(log, begin) or f"the daemon ended with status {status}", status or FAILED)
    except TimeoutError:
        text = f"pid {process.pid} runs, and not every site serves after {figures.duration(wait_s)}"
        raise Failed(f"{text}; djsup status tells which", TIMED_OUT) from None
    finally:
        os.close(ready)
        os.close(log)
    _tell(target, settings, process.pid, answer)
    return DONE if answer.ok else FAILED


def _open_log(runtime_dir: Path) -> int:
    """The file that takes what the detached daemon prints, opened for appending.

    Raises:
        Failed: the runtime directory can't be used.
    """
    try:
        runtime_dir.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        found = runtime_dir.lstat()
        # In /tmp anybody could have made the folder first, with a link in it to a file of ours.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise Failed(f"runtime_dir {runtime_dir} is not a folder of uid {os.geteuid()}")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(runtime_dir / LOG_NAME, flags, 0o600)
    except OSError as error:
        raise Failed(f"cannot use runtime_dir {runtime_dir}: {error.strerror}") from error


def _spawn(settings: Settings, log: int) -> tuple[subprocess.Popen[bytes], int]:
    """The daemon's process, and the end of the pipe on which it says that it is ready."""
    ready, theirs = os.pipe()
    arguments = ["-c", settings.file, "--runtime-dir", settings.runtime_dir, "--ready-fd", str(theirs)]
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "djsup", "start", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=(theirs,),
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    return process, ready


def _wait(ready: int, deadline: float) -> Readiness | None:
    """The daemon's word; None when it ended without one.

    Raises:
        TimeoutError: it has not come in time.
    """
    waiting = select.poll()
    waiting.register(ready, select.POLLIN)
    line = b""
    while not line.endswith(b"\n") and len(line) < LINE_MAX_BYTES:
        if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        chunk = os.read(ready, 64 * 1024)
        if not chunk:
            return None
        line += chunk
    said = json.loads(line)
    return Readiness(bool(said["ok"]), {str(name): str(text) for name, text in said["sites"].items()})


def _tell(target: Target, settings: Settings, pid: int, answer: Readiness) -> None:
    """Each site with its state and addresses, each failure with its reason."""
    states: dict[str, dict[str, Any]] = {}
    with suppress(client.ClientError):
        picture = client.Client(settings.runtime_dir).call("status")
        states = {site["name"]: site for site in picture["sites"]}
    if target.as_json:
        output.as_json({"pid": pid, "ok": answer.ok, "sites": answer.sites})
        return
    console = output.console()
    console.print(Text(f"djsup runs as pid {pid}; it prints to {settings.runtime_dir}/{LOG_NAME}"))
    for site in settings.sites:
        said = answer.sites.get(site.name, "unknown")
        state = str(states.get(site.name, {}).get("state", said))
        serves = state in ("serving", "degraded", "sleeping")
        addresses = ", ".join(
            address_to_open(str(address), "https" if address in site.tls_listen else "http")
            for address in site.listen
        )
        line = Text.assemble(
            (f"{site.name}: ", "bold"),
            (state if serves else "does not serve", "green" if serves else "bold red"),
        )
        line.append(f" on {addresses}" if serves else f": {output.clean(said)}")
        console.print(line, soft_wrap=True)
    if settings.dashboard is not None:
        console.print(Text.assemble(("dashboard: ", "bold"), f"http://{settings.dashboard.listen}/"))


def address_to_open(address: str, scheme: str = "http") -> str:
    """An address as a browser opens it from this machine; one of no TCP port as it is."""
    if address.startswith(("unix:", "fd:")):
        return address
    host, _, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 -- nothing listens here
    return f"{scheme}://{host}:{port}/"


def _tail(log: int, begin: int) -> str:
    """The last of what the daemon printed since an offset."""
    size = os.fstat(log).st_size
    content = os.pread(log, LOG_MAX_BYTES, max(begin, size - LOG_MAX_BYTES))
    lines = [line.removeprefix("djsup: ") for line in content.decode(errors="replace").splitlines()]
    return "\n".join(lines[-LOG_LINES:])
