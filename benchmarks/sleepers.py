"""What a daemon costs that does nothing: its CPU and memory with a thousand sites that sleep.

``python -m benchmarks.sleepers [SITES]`` starts one on a configuration of its own, waits until all sleep,
and reads /proc/PID for half a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

WATCHED_S = 30.0
FIRST_PORT = 12_000


def configuration(folder: Path, sites: int) -> str:
    """So many cold sites; only the first is ever loaded."""
    (folder / "site").mkdir()
    (folder / "site" / "app.py").write_text(
        'def application(environ, start):\n    start("200 OK", [("Content-Length", "0")])\n    return [b""]\n'
    )
    tables = [
        f'[sites.s{number}]\ndirectory = "site"\npython = "{sys.executable}"\nwsgi = "app:application"\n'
        f'listen = ["127.0.0.1:{FIRST_PORT + number}"]\nworkers = {{ min = 0, max = 4 }}\n'
        "scaling.start_asleep = true\n"
        for number in range(sites)
    ]
    return f'runtime_dir = "{folder}/run"\n' + "\n".join(tables)


def main() -> None:
    """Measure once and say what was found."""
    sites = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "djsup.toml"
        config.write_text(configuration(folder, sites))
        reader, writer = os.pipe()
        begun = time.monotonic()
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "djsup", "start", "-c", str(config), "--ready-fd", str(writer)],
                stdout=log,
                stderr=log,
                pass_fds=(writer,),
            )
        os.close(writer)
        try:
            with os.fdopen(reader) as ready:
                assert ready.readline(), (folder / "log").read_text()
            print(f"{sites} sites asleep after {time.monotonic() - begun:.1f} s")
            process = psutil.Process(daemon.pid)
            time.sleep(5)
            used = sum(process.cpu_times()[:2])
            time.sleep(WATCHED_S)
            used = sum(process.cpu_times()[:2]) - used
            memory = process.memory_full_info()
            print(f"CPU: {used / WATCHED_S * 100:.2f} % of a core")
            print(f"memory: {memory.rss / 2**20:.1f} MiB resident, {memory.uss / 2**20:.1f} MiB private")
            print(f"processes below it: {len(process.children(recursive=True))}")
        finally:
            daemon.terminate()
            daemon.wait(60)


if __name__ == "__main__":
    main()
