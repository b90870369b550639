"""A real proxy in front of a daemon, with the configuration that ``djsup proxy-config`` prints.

Runs nginx, Apache, Caddy or HAProxy from Debian in a folder of its own; the machine's own are not touched.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner
from tools import debian

from djsup.cli import cli
from system.daemon import wait_for

PROGRAMS = {"nginx": "nginx", "apache": "apache2", "caddy": "caddy", "haproxy": "haproxy"}
APACHE_MODULES = (
    "mpm_event", "authz_core", "mime", "alias", "proxy", "proxy_http", "headers", "rewrite", "ssl", "http2", "reqtimeout",
)  # fmt: skip
APACHE_FOLDER = Path("/usr/lib/apache2/modules")
NOBODY = 65534


def config_of(config: Path, proxy: str, *listens: str) -> str:
    """What the command prints for a configuration, when the proxy listens at these ports of this machine."""
    arguments = [word for listen in listens for word in ("--listen", listen)]
    done = CliRunner().invoke(cli, ["proxy-config", proxy, *arguments, "-c", str(config)])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    assert done.stderr == "", "the configuration is as a proxy wants it"
    return done.stdout


def commands(proxy: str, folder: Path, text: str) -> tuple[list[str], list[str]]:
    """How the proxy is asked whether its configuration is right, and how it is started in the foreground."""
    program = debian.find(PROGRAMS[proxy])
    assert program is not None, "the test is skipped without"
    file = folder / f"{proxy}.conf"
    if proxy == "caddy":  # its API has a port that several would want
        text = text.replace("\n{\n", "\n{\n    admin off\n", 1)
    file.write_text(text)
    match proxy:
        case "nginx":
            main = folder / "main.conf"
            user = "user root;\n" if os.geteuid() == 0 else ""
            places = "".join(
                f"    {kind}_temp_path {folder}/{kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            main.write_text(
                f"{user}daemon off;\npid {folder}/nginx.pid;\nerror_log stderr;\nworker_processes 1;\n"
                f"events {{ worker_connections 256; }}\nhttp {{\n    access_log off;\n    types {{ text/css css; }}\n{places}    include {file};\n}}\n"
            )
            start = [program, "-p", str(folder), "-c", str(main), "-e", "stderr"]
            return [*start, "-t"], start
        case "apache":
            main = folder / "main.conf"
            loaded = "\n".join(
                f"LoadModule {each}_module {APACHE_FOLDER}/mod_{each}.so" for each in APACHE_MODULES
            )
            (folder / "mime.types").write_text("text/css css\n")
            main.write_text(
                f"ServerRoot {folder}\nServerName localhost\nDefaultRuntimeDir {folder}\nPidFile {folder}/httpd.pid\n"
                f"ErrorLog /dev/stderr\n{loaded}\nTypesConfig {folder}/mime.types\nInclude {file}\n"
            )
            start = [*_not_as_root(), program, "-f", str(main)]
            return [*start, "-t"], [*start, "-DFOREGROUND"]
        case "caddy":
            named = ["--config", str(file), "--adapter", "caddyfile"]
            return [program, "validate", *named], [program, "run", *named]
        case _:
            return [program, "-c", "-f", str(file)], [program, "-db", "-f", str(file)]


@contextmanager
def running(proxy: str, folder: Path, text: str, port: int) -> Iterator[None]:
    """The proxy, from when it listens until the block ends; its log is printed."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0:  # Apache refuses to serve as root
        os.chown(folder, NOBODY, NOBODY)
    check, start = commands(proxy, folder, text)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    checked = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert checked.returncode == 0, f"{checked.stdout}{checked.stderr}\n{text}"
    log = folder / "proxy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(start, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment)
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None, f"{proxy} to listen")
        assert process.poll() is None, log.read_text(errors="replace")
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        print(f"--- {proxy} ---\n{log.read_text(errors='replace')[-4000:]}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _not_as_root() -> list[str]:
    """Nobody, who gets leave to read what is root's, here only."""
    if os.geteuid() != 0:
        return []
    leave = "+dac_override,+dac_read_search"
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return ["setpriv", *who, f"--inh-caps={leave}", f"--ambient-caps={leave}"]
