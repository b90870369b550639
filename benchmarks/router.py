"""What the router costs: ``python -m benchmarks.router [SECONDS]`` asks the same site directly and through the router.

Both ways are measured in turn with wrk, three times each, on a daemon of its own: a bare function, two workers, sixteen
connections. Once there are as many threads as connections; once half as many, as is usual, so that requests wait; and once each
request takes a while besides. CPU time is that of all processes below the daemon, so the router
counts, and wrk does not.
"""

import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROUNDS = 3
CONNECTIONS = 16
BUSY_S = 0.005
APPLICATION = f"""
import time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep({BUSY_S})
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\\n"]
"""
CONFIG = """
runtime_dir = "{folder}/run"
listen = ["127.0.0.1:{shared}"]
[sites.shared]
directory = "{folder}"
wsgi = "bench:application"
workers = 2
threads = 8
hosts = ["localhost"]
[sites.shared_crowded]
directory = "{folder}"
wsgi = "bench:application"
workers = 2
hosts = ["crowded.localhost"]
[sites.neighbour]
directory = "{folder}"
wsgi = "bench:application"
hosts = ["neighbour.localhost"]
workers = {{ min = 0, max = 1 }}
scaling = {{ start_asleep = true }}
[sites.direct]
directory = "{folder}"
wsgi = "bench:application"
workers = 2
threads = 8
listen = ["127.0.0.1:{direct}"]
[sites.direct_crowded]
directory = "{folder}"
wsgi = "bench:application"
workers = 2
listen = ["127.0.0.1:{crowded}"]
"""
LOADS = (
    ("a thread for each connection", "/", "localhost", "direct"),
    ("a thread for every other one: requests wait", "/", "crowded.localhost", "crowded"),
    (f"the same, {BUSY_S * 1000:.0f} ms a request", "/slow", "crowded.localhost", "crowded"),
)
"""What is said of it, the path, the host on the shared address, the address of the direct way."""


def main() -> int:
    """Measure, and print a line for each run."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = {each: _free_port() for each in ("direct", "crowded", "shared")}
        (folder / "bench.py").write_text(APPLICATION)
        (folder / "djsup.toml").write_text(CONFIG.format(folder=folder, **ports))
        with (folder / "log").open("wb") as log:
            command = [sys.executable, "-m", "djsup", "start", "-c", str(folder / "djsup.toml")]
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for port in ports.values():
                _await_answer(port)
            print("way      requests/s   CPU us a request   p50 ms   p99 ms   failed")
            for load, path, host, direct in LOADS:
                print(load)
                for _ in range(ROUNDS):
                    for way, port in (("direct", ports[direct]), ("shared", ports["shared"])):
                        url = f"http://127.0.0.1:{port}{path}"
                        print(_run(way, url, host, seconds, daemon.pid), flush=True)
        finally:
            daemon.terminate()
            daemon.wait(30)
    return 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _await_answer(port: int) -> None:
    for _ in range(300):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if client.recv(64).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the daemon does not answer")


def _run(way: str, url: str, host: str, seconds: int, pid: int) -> str:
    before = _cpu_s(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-H", f"Host: {host}", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent_s = _cpu_s(pid) - before
    requests = int(_found(r"(\d+) requests in", said))
    failed = sum(int(each) for each in re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", said))
    return (
        f"{way:8} {requests / seconds:10.0f}   {spent_s / requests * 1e6:16.1f}   {_ms('50%', said):6.2f}   "
        f"{_ms('99%', said):6.2f}   {failed:6}"
    )


def _cpu_s(pid: int) -> float:
    """Processor time so far of all processes below one."""
    spent = 0.0
    for process in psutil.Process(pid).children(recursive=True):
        times = process.cpu_times()
        spent += times.user + times.system
    return spent


def _found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    if match is None:
        raise SystemExit(f"wrk said something else: {said}")
    return match.group(1)


def _ms(name: str, said: str) -> float:
    value = _found(rf"{re.escape(name)} +([\d.]+(?:us|ms|s))", said)
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", value).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


if __name__ == "__main__":
    sys.exit(main())
