"""``djsup systemd``: the units that run djsup as a service, complete and commented."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from djsup.cli import output
from djsup.cli.verb import Failed, Target, Verb

if TYPE_CHECKING:
    from djsup.core.model import Address, Settings

NOTIFY_RELOAD_SINCE = 253
"""The first systemd that knows Type=notify-reload."""
START_SLACK_S = 30.0
STOP_SLACK_S = 15.0
STORE_SPARE = 64
"""Descriptors that may be stored beyond the listeners of today."""
PORT_EXAMPLE = 8000


@click.command(
    "systemd", cls=Verb, examples=("djsup systemd", "sudo djsup systemd --into /etc/systemd/system")
)
@click.option(
    "--into",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    metavar="DIR",
    help="Write the files into this folder, instead of printing them.",
)
@click.option(
    "--systemd-version",
    "version",
    type=int,
    metavar="N",
    help=f"Write for this version; default: the one of this machine (Type=notify-reload needs {NOTIFY_RELOAD_SINCE}).",
)
@click.pass_obj
def command(target: Target, into: Path | None, version: int | None) -> None:
    """The systemd units for this configuration."""
    settings = target.load().settings
    files = units(settings, version if version is not None else _version_here())
    if into is None:
        if target.as_json:
            output.as_json(files)
        else:
            click.echo("\n".join(f"# {name}\n{text}" for name, text in files.items()), nl=False)
        return
    for name, text in files.items():
        try:
            (into / name).write_text(text)
        except OSError as error:
            raise Failed(f"cannot write {into / name}: {error.strerror}") from error
    if target.as_json:
        output.as_json({"written": [str(into / name) for name in files]})
        return
    for name in files:
        click.echo(f"{into / name} is written")
    click.echo(f"now: systemctl daemon-reload && systemctl enable --now {' '.join(reversed(files))}")


def units(settings: Settings, version: int) -> dict[str, str]:
    """The texts of the units by the names of their files, the service first."""
    names = dict.fromkeys(address.host for address in _addresses(settings) if str(address).startswith("fd:"))
    sockets = {name: f"djsup-{name}.socket" for name in names}
    files = {"djsup.service": _service(settings, list(sockets.values()), version)}
    for index, (name, unit) in enumerate(sockets.items()):
        files[unit] = _socket(name, PORT_EXAMPLE + index)
    return files


def _addresses(settings: Settings) -> list[Address]:
    """All that sites listen on, their own and what they share."""
    return [*(address for site in settings.sites for address in site.listen), *settings.shared]


def _service(settings: Settings, sockets: list[str], version: int) -> str:
    boot_s = sum(site.limits.boot_timeout_s for site in settings.sites)
    drain_s = max((site.limits.drain_timeout_s for site in settings.sites), default=0.0)
    store = len(_addresses(settings)) + STORE_SPARE
    after = " ".join(["network-online.target", *sockets])
    needs = f"# Its sockets are bound by systemd.\nRequires={' '.join(sockets)}\n" if sockets else ""
    hands = f"Sockets={' '.join(sockets)}\n" if sockets else ""
    run = f"{_quoted(_program())} start -c {_quoted(settings.file)}"
    kind = (
        "# Ready once every site serves or has failed; systemctl reload waits until the reload has ended.\n"
        "Type=notify-reload\n"
    )
    if version < NOTIFY_RELOAD_SINCE:
        kind = (
            "# Ready once every site serves or has failed.\nType=notify\n"
            f"# Type=notify-reload needs systemd {NOTIFY_RELOAD_SINCE}. This waits as well, and fails if a site was rolled back.\n"
            f"ExecReload={_quoted(_program())} reload -c {_quoted(settings.file)}\n"
        )
    return f"""\
[Unit]
Description=djsup: Django sites
After={after}
Wants=network-online.target
{needs}# However often it has died, it is started again.
StartLimitIntervalSec=0

[Service]
{kind}NotifyAccess=main
ExecStart={run}
{hands}
# When djsup itself dies its sites serve on for orphan_grace ({settings.orphan_grace_s:g} s), and the next one adopts them:
# so systemd has to leave them alone, and to be quick.
KillMode=process
Restart=always
RestartSec=100ms
# A worker that the kernel kills for memory is replaced by djsup; that is no reason to stop everything.
OOMPolicy=continue
# A djsup that is stuck is killed and started again.
WatchdogSec=30
# The listen sockets are kept here while djsup is dead: clients queue, and are not refused.
FileDescriptorStoreMax={store}

# Control groups below its own, for the limits of [sites.NAME.isolation.cgroup].
Delegate=yes

# The boot_timeout of all sites; stop_delay and the longest drain_timeout.
TimeoutStartSec={boot_s + START_SLACK_S:.0f}
TimeoutStopSec={settings.stop_delay_s + drain_s + STOP_SLACK_S:.0f}
LimitNOFILE=524288

[Install]
WantedBy=multi-user.target
"""


def _socket(name: str, port: int) -> str:
    return f"""\
[Unit]
Description=djsup: the socket "{name}"

[Socket]
# Where to listen stands here and not in djsup's configuration, which says fd:{name}: change this line.
ListenStream=127.0.0.1:{port}
FileDescriptorName={name}
Backlog=4096
Service=djsup.service

[Install]
WantedBy=sockets.target
"""


def _program() -> str:
    """The installed djsup: beside the interpreter that runs this."""
    beside = Path(sys.executable).with_name("djsup")
    if os.access(beside, os.X_OK):
        return str(beside)
    return str(Path(shutil.which("djsup") or beside).absolute())


def _quoted(text: str) -> str:
    """One word of a command line of systemd's (systemd.service(5), command lines)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", text) else escaped


def _version_here() -> int:
    """The version of this machine's systemd; where there is none, one that knows everything."""
    try:
        done = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=10, check=True
        )
        found = re.match(r"systemd (\d+)", done.stdout)
        return int(found[1]) if found else NOTIFY_RELOAD_SINCE
    except (OSError, subprocess.SubprocessError):
        return NOTIFY_RELOAD_SINCE
