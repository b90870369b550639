"""The keyring: what it tells of changed files, and what a worker is given."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from authority import Authority, PairFiles
from djsup.core.actions import Level
from djsup.core.model import CertificateFiles, Settings, SiteName, SiteSettings, TlsSettings
from djsup.keyring import Keyring
from djsup_worker.messages import Message, NewCertificates

if TYPE_CHECKING:
    from pathlib import Path

BLOG = SiteName("blog")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> PairFiles:
    return authority.issue(tmp_path, "blog.example", "*.blog.example")


@dataclass
class Heard:
    """A keyring, and all that it says."""

    tls: TlsSettings
    said: list[str] = field(default_factory=list)
    changed: list[SiteName] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keyring = Keyring(self._say, self.changed.append)
        self.adopt(self.tls)

    def _say(self, kind: str, text: str, level: Level, site: SiteName | None) -> None:
        assert f'site "{site}"' in text
        self.said.append(kind)

    def adopt(self, tls: TlsSettings | None) -> None:
        site = SiteSettings(BLOG, "/srv/blog", "/usr/bin/python3", (), tls=tls)
        self.keyring.adopt(Settings("/etc/djsup.toml", "/run/djsup", (site,)))

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.keyring.look()

    def given(self) -> tuple[NewCertificates, list[bytes]] | None:
        found: list[tuple[NewCertificates, list[bytes]]] = []

        def send(message: Message, fds: list[int]) -> None:
            assert isinstance(message, NewCertificates)
            found.append((message, [os.pread(fd, 1 << 20, 0) for fd in fds]))
            for fd in fds:
                with pytest.raises(OSError, match="Operation not permitted"):
                    os.pwrite(fd, b"x", 0)

        self.keyring.give(BLOG, send)
        return found[0] if found else None


@pytest.fixture
def heard(pair: PairFiles) -> Heard:
    return Heard(
        TlsSettings(
            (), (CertificateFiles(str(pair.certificate), str(pair.key)),), "https://{host}", "max-age=1"
        )
    )


def test_a_worker_is_given_content_that_nobody_can_change(heard: Heard, pair: PairFiles) -> None:
    assert heard.given() == (
        NewCertificates(["blog.example *.blog.example"], "https://{host}", "max-age=1"),
        [pair.pem],
    )
    assert heard.said == []


def test_changed_files_are_told_once_they_stand_still(
    heard: Heard, authority: Authority, pair: PairFiles, tmp_path: Path
) -> None:
    heard.look(3)
    assert heard.changed == []
    authority.issue(tmp_path, "new.example")
    heard.look()
    assert heard.changed == [], "it may be half written"
    heard.look(3)
    assert (heard.changed, heard.said) == ([BLOG], ["certificate-changed"])
    given = heard.given()
    assert given is not None
    assert given[1] == [pair.pem]


def test_links_are_followed_as_certbot_changes_them(
    heard: Heard, authority: Authority, pair: PairFiles, tmp_path: Path
) -> None:
    new = authority.issue(tmp_path, "new.example", file="archive2")
    for link, to in ((pair.certificate, new.certificate), (pair.key, new.key)):
        link.unlink()
        link.symlink_to(to)
    heard.look(2)
    assert heard.changed == [BLOG]


def test_files_of_no_use_are_said_once_and_the_old_pair_is_given_on(
    heard: Heard, authority: Authority, pair: PairFiles, tmp_path: Path
) -> None:
    old = pair.pem
    other = authority.issue(tmp_path, "new.example", file="other")
    pair.certificate.write_bytes(other.certificate.read_bytes())
    heard.look(5)
    assert (heard.changed, heard.said) == ([], ["certificate-refused"])
    given = heard.given()
    assert given is not None
    assert given[1] == [old]
    pair.key.write_bytes(other.key.read_bytes())
    heard.look(2)
    assert (heard.changed, heard.said) == ([BLOG], ["certificate-refused", "certificate-changed"])


def test_files_that_were_touched_only_are_no_news(heard: Heard, pair: PairFiles) -> None:
    os.utime(pair.certificate, (1, 1))
    heard.look(5)
    assert (heard.changed, heard.said) == ([], [])


def test_other_settings_are_told_and_none_are_kept_for_what_runs(heard: Heard) -> None:
    heard.adopt(heard.tls)
    assert heard.changed == []
    heard.adopt(replace(heard.tls, hsts=""))
    assert (heard.changed, heard.said) == ([BLOG], [])
    heard.adopt(None)
    assert heard.given() is not None, "an older generation may fork yet"
    heard.keyring.forget(BLOG)
    assert heard.given() is None


def test_a_certificate_that_ends_soon_is_warned_of_once(
    heard: Heard, authority: Authority, tmp_path: Path
) -> None:
    authority.issue(tmp_path, "blog.example", not_after=datetime.now(UTC) + timedelta(days=3))
    heard.look(5)
    assert heard.said == ["certificate-changed", "certificate-ends"]


def test_files_that_come_late_are_taken_when_they_come(pair: PairFiles) -> None:
    certificate = pair.certificate.read_bytes()
    pair.certificate.unlink()
    late = Heard(TlsSettings((), (CertificateFiles(str(pair.certificate), str(pair.key)),)))
    assert (late.said, late.given()) == (["certificate-refused"], None)
    pair.certificate.write_bytes(certificate)
    late.look(2)
    assert late.changed == [BLOG]
    assert late.given() is not None
