"""What it costs to observe: the CPU of the daemon and of the dashboard, with nobody looking and with a page open.

``python -m benchmarks.observing`` runs ten sites of four workers each under a light load, and reads the processor time of
both processes: with no page open, with the overview in a real Chromium, and with a site's page and its charts. Chromium
and the load take processor time of their own, which is not counted; a machine with other work makes the figures larger.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from playwright.sync_api import sync_playwright

from benchmarks.workloads import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

SITES, WORKERS = 10, 4
REQUESTS_PER_S = 2.0
"""Of each site: enough that every figure moves."""
SETTLE_S = 15.0
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ALLOWED = {"no page open": 0.5, "overview open": 2.0, "site page open": 2.0, "daemon page open": 2.0}
"""Per cent of one core, both processes together."""


def main() -> None:
    """Measure and print a table; exit status 1 when something is above what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each is watched (60)")
    seconds = parser.parse_args().seconds
    print(
        f"{SITES} sites, {SITES * WORKERS} workers, {SITES * REQUESTS_PER_S:.0f} requests/s, {seconds:.0f} s each"
    )
    print("| | daemon | dashboard | together | allowed |\n| --- | --- | --- | --- | --- |")
    with (
        tempfile.TemporaryDirectory(prefix="djsup-observing-") as name,
        fleet(Path(name)) as (daemon, ports),
        light_load(ports[:-1]),
        sync_playwright() as playwright,
    ):
        time.sleep(SETTLE_S)
        well = [row("no page open", daemon, seconds)]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        log_in(page, ports[-1], (Path(name) / "token").read_text().strip())
        for title, place in (("overview", "#/"), ("site page", "#/sites/s0"), ("daemon page", "#/daemon")):
            page.goto(f"http://127.0.0.1:{ports[-1]}/{place}")
            page.wait_for_timeout(1000 * SETTLE_S)
            well.append(row(f"{title} open", daemon, seconds))
        browser.close()
    sys.exit(0 if all(well) else 1)


def row(what: str, daemon: psutil.Process, seconds: float) -> bool:
    """Watch for so long and print a line of the table; whether it is within what is allowed."""
    (dashboard,) = [each for each in daemon.children() if "djsup_web" in " ".join(each.cmdline())]
    before = [spent_s(each) for each in (daemon, dashboard)]
    begun = time.monotonic()
    time.sleep(seconds)
    took_s = time.monotonic() - begun
    shares = [
        100 * (spent_s(each) - was) / took_s for each, was in zip((daemon, dashboard), before, strict=True)
    ]
    allowed = ALLOWED[what]
    print(
        f"| {what} | {shares[0]:.2f} % | {shares[1]:.2f} % | {sum(shares):.2f} % | {allowed} % |", flush=True
    )
    return sum(shares) < allowed


def spent_s(process: psutil.Process) -> float:
    """Processor time that a process has taken, without its children's: exact, in hundredths of a second (proc(5), stat)."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def fleet(folder: Path) -> Iterator[tuple[psutil.Process, list[int]]]:
    """The daemon with all its sites serving, and their ports; the last is the dashboard's."""
    ports = free_ports(SITES + 1)
    sites = "".join(
        f'[sites.s{number}]\ndirectory = "{ROOT}/benchmarks/apps"\npython = "{sys.executable}"\n'
        f'wsgi = "bare:application"\nlisten = ["127.0.0.1:{port}"]\nworkers = {WORKERS}\n'
        for number, port in enumerate(ports[:-1])
    )
    config = folder / "djsup.toml"
    config.write_text(
        f'runtime_dir = "{folder}/run"\n[dashboard]\nlisten = "127.0.0.1:{ports[-1]}"\n'
        f'token_file = "{folder}/token"\n{sites}'
    )
    djsup = [sys.executable, "-m", "djsup"]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen([*djsup, "start", "-c", str(config)], stdout=log, stderr=log)
    try:
        wait_for_sites(ports[-1], daemon, folder / "log")
        yield psutil.Process(daemon.pid), ports
    finally:
        daemon.terminate()
        daemon.wait(60)


def free_ports(number: int) -> list[int]:
    """So many ports that the kernel has chosen."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for_sites(port: int, daemon: subprocess.Popen[bytes], log: Path) -> None:
    """Return when every site serves (the dashboard's /healthz says so)."""
    end = time.monotonic() + 120
    while time.monotonic() < end and daemon.poll() is None:
        try:
            if get(port, "/healthz") == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit(f"the sites do not serve:\n{log.read_text()}")


def get(port: int, path: str) -> int:
    """The status of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@contextmanager
def light_load(ports: list[int]) -> Iterator[None]:
    """REQUESTS_PER_S to each site, in turn, while the block runs."""
    over = threading.Event()

    def ask() -> None:
        while True:
            for port in ports:
                if over.wait(1 / (REQUESTS_PER_S * len(ports))):
                    return
                get(port, "/")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def log_in(page: Page, port: int, token: str) -> None:
    """A session for the browser."""
    page.goto(f"http://127.0.0.1:{port}/login")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.locator("#link-text", has_text="Live").wait_for()


if __name__ == "__main__":
    main()
