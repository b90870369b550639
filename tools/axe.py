"""axe-core, which finds what people with disabilities cannot use in a page: fetched from npm for the tests alone.

It is under the Mozilla Public License 2.0, and no part of what djsup ships.
"""

import shutil
import subprocess
import tarfile
from pathlib import Path

from tools.say import say

VERSION = "4.10.3"
SCRIPT = "axe.min.js"


def want(folder: Path, log: Path) -> None:
    """Have ``axe.min.js`` in a folder, or say in one line that it is missing and what for."""
    script = folder / SCRIPT
    if script.is_file():
        return
    npm = shutil.which("npm")
    archive = folder / f"axe-core-{VERSION}.tgz"
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        packed = (
            npm
            and not subprocess.run(
                [npm, "pack", f"axe-core@{VERSION}"], check=False, cwd=folder, stdout=out, stderr=out
            ).returncode
        )
    if not packed or not archive.is_file():
        say(f"Not fetched: axe-core from npm; the tests of accessibility are skipped (log: {log})")
        return
    with tarfile.open(archive) as found:
        member = found.extractfile(f"package/{SCRIPT}")
        assert member is not None, archive
        script.write_bytes(member.read())
    archive.unlink()
