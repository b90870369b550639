"""The runtime directory: one daemon at a time, its pid file, its sockets, the worker's folder.

The lock on the pid file, not its contents, says whether a daemon runs: the kernel drops it with the
process, so a stale file is never believed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


ESTATES = "estates"
"""The name of the folder in which is written what would be left of the sites."""
KEEPER = "keeper.sock"
"""The name of the socket at which a keeper is asked for the programs of a daemon that was killed."""


class RuntimeTaken(Exception):
    """Another daemon runs on this directory; the text names its pid."""


class RuntimeUnusable(Exception):
    """The directory can't be made or is not safe to use; the text says why and what to do."""


class RuntimeDirectory:
    """The directory, held by the lock from the moment it is opened."""

    def __init__(self, path: Path, lock: int | None = None) -> None:
        """Make the directory if there is none, and take the lock; ``lock`` is the lock, where we have it already.

        Raises:
            RuntimeTaken: another daemon has it.
            RuntimeUnusable: it can't be made, or others may write to it.
        """
        self.path = path
        try:
            path.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            found = path.lstat()
        except OSError as error:
            raise RuntimeUnusable(f"cannot use runtime_dir {path}: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise RuntimeUnusable(
                f"cannot use runtime_dir {path}: it is not a directory of uid {os.geteuid()}"
            )
        if found.st_mode & 0o022:
            raise RuntimeUnusable(f"cannot use runtime_dir {path}: others may write to it; chmod go-w {path}")
        self.lock = self._take_lock() if lock is None else self._keep_lock(lock)

    def _keep_lock(self, lock: int) -> int:
        if not self._is_pid_file(lock):
            raise RuntimeUnusable(f"the lock that was handed over is not that of {self.path}")
        return lock

    def _take_lock(self) -> int:
        lock = os.open(self.path / "djsup.pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise RuntimeTaken(
                f"djsup is running already: pid {pid or 'unknown'} has {self.path}; "
                "stop it with djsup stop, or name another runtime_dir"
            ) from error
        if not self._is_pid_file(lock):
            os.close(lock)  # its holder removed it between our opening and our locking
            return self._take_lock()
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _is_pid_file(self, lock: int) -> bool:
        try:
            return (self.path / "djsup.pid").stat().st_ino == os.fstat(lock).st_ino
        except FileNotFoundError:
            return False

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.path / "control.sock"

    @property
    def dashboard_control(self) -> Path:
        """The control socket that only the dashboard's process may use."""
        return self.path / "dashboard.sock"

    @property
    def events(self) -> Path:
        """The archive of events, which outlives the daemon."""
        return self.path / "events.sqlite3"

    @property
    def worker(self) -> Path:
        """The folder that sites' interpreters run."""
        return self.path / "worker"

    @property
    def notify(self) -> Path:
        """The folder of the sockets on which programs say that they are ready."""
        return self.path / "notify"

    @property
    def home(self) -> Path:
        """The socket on which a daemon adopts what an earlier one has left."""
        return self.path / "home.sock"

    @property
    def router(self) -> Path:
        """The socket at which an earlier daemon's router gives its listeners away."""
        return self.path / "router.sock"

    @property
    def keeper(self) -> Path:
        """The socket at which an earlier daemon's keeper gives the programs away."""
        return self.path / KEEPER

    @property
    def estates(self) -> Path:
        """The folder in which is written what would be left of the sites."""
        return self.path / ESTATES

    def release(self) -> None:
        """Remove the pid file and let the lock go."""
        with suppress(FileNotFoundError):
            (self.path / "djsup.pid").unlink()
        os.close(self.lock)


TOKENS_MAX = 20
"""In one file: every wrong token is compared with each."""


def read_tokens(path: Path) -> tuple[str, ...]:
    """The SHA-256 in hex of each of the dashboard's tokens in a file; makes one, mode 0600, when there is no file.

    A token a line; empty lines and those that begin with # are none.

    Raises:
        OSError: it can't be read or made.
        ValueError: the file has no token.
    """
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except FileNotFoundError:
        token = secrets.token_urlsafe(24)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(token + "\n")
        lines = [token]
    tokens = dict.fromkeys(line for line in lines if line and not line.startswith("#"))
    if not tokens:
        raise ValueError(f"{path} is empty: write a token to it, or remove it and one is made")
    if len(tokens) > TOKENS_MAX:
        raise ValueError(f"{path} has {len(tokens)} tokens; {TOKENS_MAX} are enough for anybody")
    return tuple(sha256(token.encode()).hexdigest() for token in tokens)
