"""djsup's configuration for a run, and which of the things measured it can do already."""

from benchmarks.launch import Launch
from benchmarks.workloads import ROOT, STATIC_FOLDER, STATIC_URL
from djsup.config.schema import SiteTable

CAN_TLS = "tls" in SiteTable.model_fields
CAN_STATIC = "static" in SiteTable.model_fields
PROGRAM = str(ROOT / ".venv/bin/djsup")


def command(launch: Launch, *, listen: str = "", more: str = "", tables: str = "") -> list[str]:
    """Write the configuration, and say how the daemon is started with it.

    ``listen`` is one address more, ``more`` are lines of the site's table, ``tables`` stand below all.
    """
    config = launch.folder / "djsup.toml"
    config.write_text(_config(launch, listen, more) + tables)
    return [PROGRAM, "start", "-c", str(config)]


def reload(folder: str) -> list[str]:
    """Reload the site of the daemon that keeps its files in this folder."""
    return [PROGRAM, "reload", "-c", f"{folder}/djsup.toml"]


def _config(launch: Launch, listen: str, more: str) -> str:
    static = f'static = {{ "{STATIC_URL}/" = "{STATIC_FOLDER}" }}' if launch.static else ""
    addresses = ", ".join(f'"{each}"' for each in (launch.address, listen) if each)
    where = f"listen = [{addresses}]"
    if launch.tls is not None:
        where = f'tls = {{ {where}, certificate = "{launch.tls.certificate}", key = "{launch.tls.key}" }}'
    return f"""
runtime_dir = "{launch.folder}/run"

[sites.bench]
directory = "{launch.application.directory}"
python = "{launch.environment}"
wsgi = "{launch.application.wsgi}"
{where}
workers = {launch.workers}
threads = {launch.threads}
{static}
{more}

[sites.bench.reload]
keep_previous = 0
"""
