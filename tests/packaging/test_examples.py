"""The example sites' own tests, each with its own Python and Django."""

import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("site", ["blog", "shop"])
@pytest.mark.parametrize(
    "command", [["test"], ["check"], ["makemigrations", "--check", "--dry-run"]], ids=lambda c: c[0]
)
def test_example_site_passes(site: str, command: list[str]) -> None:
    directory = EXAMPLES / site
    python = directory / ".venv/bin/python"
    if not python.exists():
        pytest.skip(f"the virtualenv of examples/{site} is not there: make test makes it")
    done = subprocess.run(
        [python, "manage.py", *command],
        cwd=directory, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
