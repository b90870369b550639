"""The promises that the repository's own files make to each other."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


def readme_commands() -> list[str]:
    block = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert block is not None
    return [line.partition("#")[0].strip() for line in block[1].splitlines() if line.strip()]


def test_readme_opens_with_two_commands_that_make_knows() -> None:
    assert readme_commands() == ["make run", "make test"]
    for command in readme_commands():
        verb = command.split()[1]
        assert re.search(rf"^{verb}:", MAKEFILE, re.MULTILINE)
        dry = subprocess.run(["make", "-n", verb], cwd=ROOT, capture_output=True, text=True, check=False)
        assert dry.returncode == 0, dry.stderr


def test_ci_runs_the_readmes_test_command_and_installs_nothing_itself() -> None:
    script = (ROOT / ".ci/run").read_text()
    commands = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert readme_commands()[1] in commands
    assert "make lint" in commands
    assert not any(word in script for word in ("pip ", "apt", "venv"))
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_reference_is_in_step_with_the_schema_and_the_command_line() -> None:
    check = [sys.executable, "-m", "tools.make_reference", "--check"]
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_verbs_that_documents_mention_exist() -> None:
    from djsup.cli import VERBS  # noqa: PLC0415 - after the paths of the tests are set

    for name in ("README.md", *DOCUMENTS):
        blocks = re.findall(r"```(sh|console)\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        for kind, block in blocks:
            for line in block.splitlines():
                if kind == "sh" or line.startswith("$ "):
                    found = re.match(r"(?:\$ )?djsup (\w[\w-]*)", line)
                    assert found is None or found[1] in VERBS, f"{name}: {line}"


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", *DOCUMENTS])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not re.match(r"\w+:", target):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


def test_example_configuration_is_valid_without_a_warning_but_the_one_about_root() -> None:
    from djsup import config  # noqa: PLC0415

    for site in ("blog", "shop"):
        if not (ROOT / "examples" / site / ".venv").exists():
            pytest.skip(f"the virtualenv of examples/{site} is not there: make test makes it")
    loaded = config.load(ROOT / "config.example.toml", {})
    assert [site.name for site in loaded.settings.sites] == ["blog", "shop", "hello"]
    assert [str(each) for each in loaded.warnings if "runs as root" not in str(each)] == []


def test_find_python_takes_no_candidate_that_does_not_run(tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho 'not found in this version' >&2\nexit 127\n")
    shim.chmod(0o755)
    (tmp_path / "tools").mkdir()
    script = tmp_path / "tools/find-python"
    script.write_text((ROOT / "tools/find-python").read_text())
    good = f'exec {shlex.quote(sys.executable)} "$@"\n'
    (tmp_path / "python3.12").write_text(f"#!/bin/sh\n{good}")
    (tmp_path / "python3.12").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(["/bin/sh", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sys.executable


def test_find_python_says_what_is_wrong_with_the_one_named(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false"}
    script = ROOT / "tools/find-python"
    done = subprocess.run(["/bin/sh", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PYTHON=/bin/false" in done.stderr
