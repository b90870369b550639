"""Prepare the interpreter: the import path as a site expects it, and the packages that the worker is lent.

Runs before anything of the site is imported. Leaves the application itself to ``application``.
"""

import contextlib
import importlib
import os
import sys
from typing import Iterator, Optional, Tuple

HTTPTOOLS_LEAST = (0, 6, 4)
HTTPTOOLS_BELOW = (0, 10)
HTTPTOOLS_WANTED = "httptools>=0.6.4,<0.10"


class SiteError(Exception):
    """The site, its settings or its interpreter stand in the way; the text is for its owner."""


def forget_worker_folder(folder: str) -> None:
    """Take the folder that this program was run from off the import path: a site shall not see it."""
    real = os.path.realpath(folder)
    sys.path[:] = [entry for entry in sys.path if not entry or os.path.realpath(entry) != real]
    sys.path_importer_cache.pop(folder, None)


def enter_directory(directory: str) -> None:
    """Make the site's directory the current one and the first on the import path, as manage.py has it.

    Links are followed once, here: where a deploy turns a link to a new folder, this process goes on to import from the
    one that its code is of, also in the virtualenv.

    Raises:
        SiteError: there is no such directory, or it may not be entered.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        raise SiteError("cannot enter the directory %s (%s)" % (directory, error.strerror)) from error
    path = [directory] + [entry for entry in sys.path if entry]
    sys.path[:] = dict.fromkeys(os.path.realpath(entry) for entry in path)


@contextlib.contextmanager
def httptools_at_hand(folder: str) -> Iterator[None]:
    """While this lasts ``import httptools`` works: the copy that the daemon lends, else the site's own.

    A lent copy leaves neither its path nor its name behind, so that a site that imports httptools
    gets its own.

    Raises:
        SiteError: there is neither, or the site's own is of another version; names the command that helps.
    """
    lent = os.path.join(folder, "lent", str(sys.implementation.cache_tag))
    if not _import_lent(lent, "httptools"):
        _import_own()
        yield
        return
    try:
        yield
    finally:
        _forget("httptools")


@contextlib.contextmanager
def whitenoise_at_hand(folder: str) -> Iterator[None]:
    """While this lasts ``import whitenoise`` works: the daemon lends one to every Python, for it is plain Python.

    Like httptools' it leaves nothing behind: a site that imports whitenoise gets its own.

    Raises:
        SiteError: it cannot be imported by this interpreter.
    """
    if not _import_lent(os.path.join(folder, "lent", "any"), "whitenoise"):
        raise SiteError(
            "static files need WhiteNoise, and the copy that djsup lends cannot be imported by %s (Python %d.%d)"
            % (sys.executable, sys.version_info[0], sys.version_info[1])
        )
    try:
        yield
    finally:
        _forget("whitenoise")


def import_tls() -> None:
    """Import what speaks TLS, and ``ssl`` with it.

    Raises:
        SiteError: this Python was built without it.
    """
    try:
        importlib.import_module("djsup_worker.tls")
    except ImportError as error:
        raise SiteError(
            "Python %d.%d of this site has no ssl module (%s), and the site listens with TLS; build it with OpenSSL"
            % (sys.version_info[0], sys.version_info[1], error)
        ) from error


def _import_lent(lent: str, package: str) -> bool:
    if not os.path.isdir(os.path.join(lent, package)):
        return False
    sys.path.insert(0, lent)
    try:
        importlib.import_module(package)
    except ImportError:
        _forget(package)
        return False  # built for another machine: the site's own may do
    else:
        return True
    finally:
        sys.path.remove(lent)
        sys.path_importer_cache.pop(lent, None)


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def _import_own() -> None:
    command = '%s -m pip install "%s"' % (sys.executable, HTTPTOOLS_WANTED)
    try:
        found = importlib.import_module("httptools")
    except ImportError as error:
        raise SiteError(
            "Python %d.%d of this site has no httptools (%s); install it with: %s"
            % (sys.version_info[0], sys.version_info[1], error, command)
        ) from error
    version = _version(getattr(found, "__version__", ""))
    if version is None or not HTTPTOOLS_LEAST <= version < HTTPTOOLS_BELOW:
        raise SiteError(
            "httptools %s in %s is not one that the worker knows; install another with: %s"
            % (getattr(found, "__version__", "without a version"), sys.prefix, command)
        )


def _version(text: str) -> Optional[Tuple[int, ...]]:
    parts = text.split(".")[:3]
    return tuple(int(part) for part in parts) if parts and all(part.isdigit() for part in parts) else None
