"""``python -m benchmarks.front [SECONDS]``: quick requests among slow ones, on one address for all.

Two workers of four threads each. Twelve clients keep their connections open, ask fifty times a second, and one time in ten for
a page that waits 50 ms; how long the others took is what counts, from when they were due. djsup by a site's own address and by one that
sites share (its router), the other servers behind nginx, as one sets them up where several sites are on one address.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from tools.say import Failure

from benchmarks import ours
from benchmarks.launch import Launch
from benchmarks.load import Clients, ClientsResult, Manner
from benchmarks.running import NotRunning, free_port, running
from benchmarks.servers import BY_NAME, Server
from benchmarks.workloads import Application, Session, Workload

APPLICATION = """\
import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]
"""
CLIENTS, WORKERS, THREADS = 12, 2, 4
EVERY_S = 0.02
ROUNDS = 3
SECONDS = 8.0
NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream site {{ server {address}; keepalive 32; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://site;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


def _shared(launch: Launch) -> list[str]:
    """Have djsup run it as a site that shares its address with another that sleeps: so there is a router."""
    command = ours.command(launch)
    path = Path(command[command.index("-c") + 1])
    text = path.read_text().replace(f'listen = ["{launch.address}"]', "default = true")
    neighbour = (
        f'[sites.neighbour]\ndirectory = "{launch.application.directory}"\nwsgi = "{launch.application.wsgi}"\n'
        'hosts = ["neighbour.localhost"]\nworkers = { min = 0, max = 1 }\nscaling = { start_asleep = true }\n'
    )
    path.write_text(f'listen = ["{launch.address}"]\n{text}{neighbour}')
    return command


SHARED = replace(BY_NAME["djsup"], name="djsup, shared address", command=_shared)
DIRECT = replace(BY_NAME["djsup"], name="djsup, own address")
BEHIND = tuple(BY_NAME[name] for name in ("gunicorn-gthread", "granian", "uwsgi"))


@contextmanager
def nginx(address: str, folder: Path) -> Iterator[int]:
    """Run nginx in front of an address; yields its port."""
    port = free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, address=address, port=port))
    process = subprocess.Popen(["nginx", "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def measure(server: Server, seconds: float, *, behind: bool) -> ClientsResult:
    """One run.

    Raises:
        NotRunning: the server does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="djsup-front-") as name:
        folder = Path(name)
        (folder / "mixed.py").write_text(APPLICATION)
        application = Application("mixed", folder, "mixed:application")
        session = Session(application, WORKERS, THREADS, workloads=(Workload("mixed", "", application),))
        with running(server, session) as runs:
            if not behind:
                return _load(runs.launch.port, seconds)
            with nginx(runs.launch.address, folder) as port:
                return _load(port, seconds)


def _load(port: int, seconds: float) -> ClientsResult:
    with Clients(port, "/", CLIENTS, Manner(slow="/slow", every_s=EVERY_S)) as clients:
        time.sleep(seconds)
    return clients.result


def main(arguments: list[str]) -> int:
    """Measure each in turn, some rounds, and print a table of the medians."""
    seconds = float(arguments[0]) if arguments else SECONDS
    found: dict[str, list[ClientsResult]] = {}
    for _ in range(ROUNDS):
        for server, behind in ((DIRECT, False), (SHARED, False), *((each, True) for each in BEHIND)):
            name = f"nginx, {server.name}" if behind else server.name
            try:
                server.install()
                result = measure(server, seconds, behind=behind)
                found.setdefault(name, []).append(result)
            except (NotRunning, Failure, OSError, psutil.Error) as error:
                sys.stderr.write(f"  {name}: not measured: {error}\n")
    print(f"{os.cpu_count()} cores, Linux {os.uname().release}, load average {os.getloadavg()[0]:.1f}\n")
    print(
        "| | quick requests | failed | p50, ms | p99, ms | p99.9, ms | worst, ms |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for name, results in found.items():
        cells = [
            f"{_median([each.percentile_ms(share) for each in results]):.2f}" for share in (0.5, 0.99, 0.999)
        ]
        cells.append(f"{_median([each.worst_ms for each in results]):.0f}")
        requests = sum(len(each.latencies_ms) for each in results)
        failed = sum(each.failed for each in results)
        print(f"| {name} | {requests:,} | {failed:,} | {' | '.join(cells)} |")
    return 0


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1:]))
