"""One folder of files under a prefix of URLs: which path is a file in it, and what is sent of it.

A path means a file only if every part of it is a plain name; then the file is opened, and the kernel is
asked where it really lies. So whatever links, encodings and renames may do, nothing outside of the folder
and nothing hidden is served.

What a file was found to be is kept, and holds as long as the file is the same one, by its inode, size and
time: each request opens the file anyway. The headers, the content type and how long a file may be cached
are WhiteNoise's; entity tags are made here, for its own are the same for a file and its compressed form.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Tuple

from whitenoise import WhiteNoise

from djsup_worker.boot import SiteError
from djsup_worker.conditions import accepted
from djsup_worker.wsgi import complain

TRIES = 3
"""A file that changes between finding and opening it is looked for again, so often in all."""
FILES_KEPT_MAX = 4096
"""Files of one folder that are remembered, some 2 KiB each."""
MANIFEST = "staticfiles.json"
"""Where Django's ManifestStaticFilesStorage writes which name has which hash."""
MANIFEST_MAX_BYTES = 16 * 1024 * 1024
MAX_AGE_S = 60
"""How long a file without a hash in its name may be used unasked; WhiteNoise's own default."""
LINKS_SHOWN = 3
SUFFIXES = (".br", ".gz")
"""Of the compressed forms that WhiteNoise knows."""

PATH = re.compile(r"(?:[^./\\\0-\x1f\x7f][^/\\\0-\x1f\x7f]*/)*[^./\\\0-\x1f\x7f][^/\\\0-\x1f\x7f]*")
"""Names that are not hidden, one below the other. A backslash is a separator to others than Linux."""
# O_NONBLOCK: a named pipe without a writer would hold the thread.
OPENING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.ENODEV)

Headers = List[Tuple[str, str]]
Mark = Tuple[int, int, int, int]
"""Device, inode, size and time in nanoseconds of a file: another mark is another file."""


class Representation:
    """One form of a file: as it is, or compressed."""

    __slots__ = (
        "coding",
        "etag",
        "headers",
        "kept_headers",
        "last_modified",
        "mark",
        "modified_s",
        "path",
        "size",
    )

    def __init__(self, path: str, status: os.stat_result, modified_s: int, headers: Headers) -> None:
        named = dict(headers)
        self.path = path
        self.mark = _mark(status)
        self.size = status.st_size
        self.coding = named.get("Content-Encoding", "")
        self.etag = '"%x-%x%s"' % (status.st_mtime_ns, self.size, "-" + self.coding if self.coding else "")
        self.last_modified = named.get("Last-Modified", "")
        self.modified_s = modified_s
        """When the file itself was modified, as Last-Modified says for its compressed forms too."""
        self.headers = [pair for pair in headers if pair[0] not in ("Content-Length", "ETag")]
        self.headers += [("ETag", self.etag), ("Accept-Ranges", "bytes")]
        self.kept_headers = [pair for pair in self.headers if pair[0] in ("Cache-Control", "ETag", "Vary")]
        """What a 304 says (RFC 9110, 15.4.5)."""


class Opened:
    """A file that is open for one answer. Whoever has it closes ``fd``."""

    __slots__ = ("fd", "representation")

    def __init__(self, fd: int, representation: Representation) -> None:
        self.fd = fd
        self.representation = representation


class Folder:
    """The files under one prefix, which begins and ends with a slash.

    ``changes`` says that people put files into it while the site runs: browsers have to ask each time whether
    theirs is still the file, and one upload never passes for the compressed form of another.

    Raises:
        SiteError: there is no such folder.
    """

    def __init__(self, site: str, prefix: str, path: str, *, changes: bool) -> None:
        if not changes and not os.path.isdir(path):
            raise SiteError('static "%s": there is no folder %s' % (prefix, path))
        self.prefix = prefix
        self._site = site
        self._changes = changes
        self._root = os.path.realpath(path)
        self._inside = os.fsencode(self._root) + b"/"
        self._files: Dict[str, List[Representation]] = {}
        hashed = frozenset() if changes else self._hashed()
        self._noise: Any = WhiteNoise(
            None,
            max_age=0 if changes else MAX_AGE_S,
            allow_all_origins=not changes,
            immutable_file_test=lambda _path, url: url in hashed,
            add_headers_function=_more_headers,
        )
        if not changes:
            self._look_around()

    def open(self, path: str, accept_encoding: str) -> Optional[Opened]:
        """Open the form of a file that this client gets; None: the path means no file of this folder.

        ``path`` is a PATH_INFO that begins with the prefix.

        Raises:
            OSError: it is there and cannot be opened, for instance because there are no descriptors left.
        """
        for _ in range(TRIES):
            forms = self._files.get(path) or self._find(path)
            if forms is None:
                return None
            opened = self._open_known(forms, accept_encoding)
            if opened is not None:
                return opened
            self._files.pop(path, None)  # it is not what it was
        return None

    def _open_known(self, forms: List[Representation], accept_encoding: str) -> Optional[Opened]:
        """Open the smallest acceptable form; None when it is not what it was."""
        form = forms[0]
        if form.coding:
            codings = accepted(accept_encoding)
            for form in forms:  # the last one, which is the file itself, stays
                if not form.coding or form.coding in codings:
                    break
        try:
            fd = os.open(form.path, OPENING)
        except OSError as error:
            if error.errno in NOT_THERE or error.errno == errno.EACCES:
                return None
            raise
        if _mark(os.fstat(fd)) == form.mark:
            return Opened(fd, form)
        os.close(fd)
        return None

    # --- finding ---

    def _find(self, path: str) -> Optional[List[Representation]]:
        """What there is of a file, found anew; None: there is none."""
        name = path[len(self.prefix) :]
        if not PATH.fullmatch(name):
            return None
        # A PATH_INFO has one character for each byte.
        file = os.path.join(self._root, os.fsdecode(name.encode("latin-1")))
        status = self._status(file)
        if status is None:
            return None
        found = {file: status}
        if not self._changes:
            if name.endswith(SUFFIXES) and self._status(file[:-3]) is not None:
                return None  # only a form of another, as WhiteNoise has it
            for suffix in SUFFIXES:
                compressed = self._status(file + suffix)
                # One that is older than its file was made of another content.
                if compressed is not None and int(compressed.st_mtime) >= int(status.st_mtime):
                    found[file + suffix] = compressed
        described = self._noise.get_static_file(file, path, stat_cache=found)
        modified_s = int(status.st_mtime)
        forms = [
            Representation(each, found[each], modified_s, headers)
            for _, each, headers in described.alternatives
        ]
        # A form that is not smaller than the file itself is of no use; the file comes last.
        plain = next(index for index, form in enumerate(forms) if not form.coding)
        del forms[plain + 1 :]
        if len(self._files) >= FILES_KEPT_MAX:
            self._files.clear()
        self._files[path] = forms
        return forms

    def _status(self, file: str) -> Optional[os.stat_result]:
        """The status of a regular file that lies in this folder and is not hidden; None: it is no such."""
        try:
            fd = os.open(file, OPENING)
        except OSError as error:
            if error.errno == errno.EACCES:
                complain(self._site, "static file %s cannot be read: %s" % (file, error.strerror))
            elif error.errno not in NOT_THERE:
                raise
            return None
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and self._has(os.readlink(b"/proc/self/fd/%d" % fd)):
                return status
        finally:
            os.close(fd)
        return None

    def _has(self, real: bytes) -> bool:
        """Whether a path without links leads to something in this folder that is not hidden."""
        return real.startswith(self._inside) and b"/." not in real[len(self._inside) - 1 :]

    # --- the look around at the start ---

    def _look_around(self) -> None:
        """Find the files before they are asked for: the workers share what the template found.

        Nothing depends on it. A file that comes later is found when it is asked for: while a new
        generation takes over, its pages' files are asked of workers of the old one too.
        """
        outside: List[str] = []
        for name in self._names(self._root, "", (os.fsencode(self._root),)):
            if len(self._files) >= FILES_KEPT_MAX - 1:
                break
            path = self.prefix + os.fsencode(name).decode("latin-1")
            if self._find(path) is None and not self._has(
                os.fsencode(os.path.realpath(self._root + "/" + name))
            ):
                outside.append(name)
        if outside:
            complain(
                self._site,
                'static "%s": not served, for they are links to hidden files or out of %s: %s'
                % (
                    self.prefix,
                    self._root,
                    ", ".join(outside[:LINKS_SHOWN]) + (", ..." if len(outside) > LINKS_SHOWN else ""),
                ),
            )

    def _names(self, folder: str, below: str, above: Tuple[bytes, ...]) -> Iterator[str]:
        """The names of all files that are not hidden, relative to the root; ``above`` ends links in a circle."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            complain(self._site, "static folder %s cannot be read: %s" % (folder, error.strerror))
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield below + entry.name
                continue
            real = os.fsencode(os.path.realpath(entry.path))
            if real not in above and self._has(real):
                yield from self._names(entry.path, below + entry.name + "/", (*above, real))

    def _hashed(self) -> FrozenSet[str]:
        """The URLs whose names say what is in them, as Django's manifest has it."""
        try:
            with open(os.path.join(self._root, MANIFEST), "rb") as file:
                paths = json.loads(file.read(MANIFEST_MAX_BYTES))["paths"]
            return frozenset(self.prefix + each.encode().decode("latin-1") for each in paths.values())
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            complain(self._site, 'static "%s": %s says nothing: %r' % (self.prefix, MANIFEST, error))
            return frozenset()


def _mark(status: os.stat_result) -> Mark:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _more_headers(headers: Any, _path: str, _url: str) -> None:
    # Django's SecurityMiddleware, which does not see these answers, says it too.
    headers["X-Content-Type-Options"] = "nosniff"
