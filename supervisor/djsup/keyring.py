"""The certificates of all sites: read by the daemon, watched, handed to workers.

A worker gets a pair's content over its channel and never opens a file of it, so the site's user needs no right to
one. When files change the pairs are read again, and what is of no use changes nothing: the old certificate is shown on.

Files are looked at once a second, two calls of stat(2) a pair. inotify would save these, and would have to follow the
links that certbot changes.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from djsup.core.actions import Level
from djsup.shell import sealed
from djsup_worker import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from djsup.config.certificates import Pair
    from djsup.core.model import CertificateFiles, Settings, SiteName, TlsSettings


class Say(Protocol):
    """Where something is said to the log and to the events."""

    def __call__(self, kind: str, text: str, level: Level, site: SiteName | None) -> None:
        """Say it: its kind, and one line that names the site."""


SOON = timedelta(days=7)
"""A certificate that ends within this time is warned of; certbot renews 30 days before."""

Look = tuple[tuple[int, ...] | None, ...]
"""What stat(2) says of a site's files: which they are, how long, and when they changed; None: not there."""


@dataclass(slots=True)
class Held:
    """What one site shows."""

    settings: TlsSettings
    pairs: tuple[Pair, ...]
    shown: Look
    """The files as they were when these pairs were read."""
    seen: Look
    """The files as they were at the last look; they are read when two looks are the same."""
    refused: Look | None = None
    """The files as they were when they were of no use: not read again before they change."""
    warned: bool = False


class Keyring:
    """The pairs of every site with TLS. ``changed`` is called with a site whose workers are to be told."""

    def __init__(self, say: Say, changed: Callable[[SiteName], None]) -> None:
        self._say = say
        self._changed = changed
        self._sites: dict[SiteName, Held] = {}

    def adopt(self, settings: Settings) -> None:
        """Hold what these settings name. What else is there is kept: an older generation may need it yet."""
        for site in settings.sites:
            if site.tls is not None:
                self._take(site.name, site.tls)

    def forget(self, site: SiteName) -> None:
        """The site and all its processes are gone."""
        self._sites.pop(site, None)

    def look(self) -> None:
        """Look whether files have changed."""
        for name, held in self._sites.items():
            now = look_at(held.settings)
            if now == held.seen and now not in (held.shown, held.refused):
                self._take(name, held.settings)
            held.seen = now
            self._warn_of_the_end(name, self._sites[name])

    def give(self, site: SiteName, send: Callable[[messages.Message, list[int]], None]) -> None:
        """Send what a worker of this site is to show."""
        held = self._sites.get(site)
        if held is None or not held.pairs:
            return
        names = [" ".join(pair.names) for pair in held.pairs]
        with ExitStack() as cleanup:
            fds = []
            try:
                for pair in held.pairs:
                    fds.append(sealed.seal("djsup-certificate", pair.pem))
                    cleanup.callback(os.close, fds[-1])
            except OSError as error:
                text = f'site "{site}": a certificate cannot be handed to a worker: {error.strerror}'
                self._say("certificate-refused", text, Level.ERROR, site)
                return
            send(messages.NewCertificates(names, held.settings.redirect, held.settings.hsts), fds)

    def _take(self, name: SiteName, tls: TlsSettings) -> None:
        """Read a site's pairs and show them; if one is of no use, go on with those that are shown."""
        from djsup.config import certificates  # noqa: PLC0415 -- cryptography takes a tenth of a second

        held = self._sites.get(name)
        now = look_at(tls)
        try:
            pairs = tuple(certificates.read(files) for files in tls.certificates)
        except certificates.BadPair as error:
            old = "the old one is shown on" if held is not None and held.pairs else "there is none to show"
            self._say("certificate-refused", f'site "{name}": {error}; {old}', Level.ERROR, name)
            if held is None:
                self._sites[name] = Held(tls, (), (), now, refused=now)
            else:
                held.settings, held.refused = tls, now
            return
        new = Held(tls, pairs, now, now)
        self._sites[name] = new
        if held is None:
            return
        if held.pairs != pairs:
            ends = " and ".join(f"{pair.ends_at:%Y-%m-%d}" for pair in pairs)
            self._say(
                "certificate-changed",
                f'site "{name}": shows a new certificate, valid to {ends}',
                Level.INFO,
                name,
            )
        if held.pairs != pairs or held.settings != tls:
            self._changed(name)

    def _warn_of_the_end(self, name: SiteName, held: Held) -> None:
        """Say once that a certificate ends soon: its renewal has failed, and nobody has noticed."""
        if held.warned or not held.pairs:
            return
        ends_at = min(pair.ends_at for pair in held.pairs)
        if ends_at - datetime.now(UTC) < SOON:
            held.warned = True
            text = f'site "{name}": a certificate is valid to {ends_at:%Y-%m-%d %H:%M} UTC only; is it being renewed?'
            self._say("certificate-ends", text, Level.WARNING, name)


def look_at(tls: TlsSettings) -> Look:
    """How the files are now."""
    return tuple(_look_at(path) for files in tls.certificates for path in _paths(files))


def _paths(files: CertificateFiles) -> tuple[str, str]:
    return files.certificate, files.key


def _look_at(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 -- follows links, as Path.stat, without making a path a second
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
