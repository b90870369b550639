"""Static files of a site under the daemon: configured, served, deployed."""

from __future__ import annotations

import http.client
import signal
from pathlib import Path

import pytest

from system.daemon import WAIT_S, DaemonUnderTest, Project, wait_for

MANIFEST = '{"version": "1.1", "paths": {"site.css": "site.%s.css"}}'


def collect(folder: Path, text: str, hash_: str) -> None:
    """What collectstatic leaves behind."""
    folder.mkdir(exist_ok=True)
    (folder / "site.css").write_text(text)
    (folder / f"site.{hash_}.css").write_text(text)
    (folder / "staticfiles.json").write_text(MANIFEST % hash_)


@pytest.fixture
def static(daemon: DaemonUnderTest, blog: Project, django: Path) -> Path:
    """The blog with static files and uploads, not started."""
    folder = daemon.folder / "static_collected"
    collect(folder, "one", "111111111111")
    daemon.site(
        "blog",
        django,
        more='workers = 2\nhealth.path = "/healthz"\n'
        'static = { "/static/" = "static_collected", "/media/" = { path = "media", changes = true } }',
    )
    return folder


def fetch(daemon: DaemonUnderTest, path: str) -> tuple[int, bytes, str]:
    """Status, body and Cache-Control."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.ports["blog"], timeout=WAIT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("Cache-Control", "")
    finally:
        connection.close()


def test_files_are_served_beside_the_site_and_nothing_of_whitenoise_is_seen_in_it(
    daemon: DaemonUnderTest, static: Path
) -> None:
    daemon.start()
    assert fetch(daemon, "/static/site.css") == (200, b"one", "max-age=60, public")
    immutable = "max-age=315360000, public, immutable"
    assert fetch(daemon, "/static/site.111111111111.css") == (200, b"one", immutable)
    status, body, _ = fetch(daemon, "/static/missing.css")
    assert status == 404
    assert b"<h1>Not Found</h1>" in body, "Django's own page"
    assert not [entry for entry in daemon.json("blog", "/about")["path"] if str(daemon.runtime) in entry]
    (daemon.folder / "media").mkdir()
    (daemon.folder / "media/new.txt").write_text("uploaded")
    assert fetch(daemon, "/media/new.txt") == (200, b"uploaded", "max-age=0, public")


def test_a_reload_brings_the_static_files_of_the_deploy(
    daemon: DaemonUnderTest, blog: Project, static: Path
) -> None:
    daemon.start()
    collect(static, "two", "222222222222")
    blog.deploy("two")
    daemon.reload_well("blog")
    assert fetch(daemon, "/static/site.css")[1] == b"two"
    status, body, cached = fetch(daemon, "/static/site.222222222222.css")
    assert (status, body) == (200, b"two")
    assert "immutable" in cached
    assert fetch(daemon, "/static/site.111111111111.css")[:2] == (200, b"one"), "pages of before ask for it"


def test_a_hup_with_other_folders_loads_a_new_generation_and_a_mistake_in_them_changes_nothing(
    daemon: DaemonUnderTest, static: Path, django: Path
) -> None:
    daemon.start()
    good = daemon.sites["blog"]
    daemon.sites["blog"] = good.replace('"static_collected"', '"blog"')
    daemon.write()
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: "blog holds the site's directory" in daemon.log, "the mistake in the log")
    refused = daemon.run("check")
    assert refused.status == 2
    assert 'sites.blog.static."/static/"' in refused.stderr
    assert daemon.status("blog")["generation"] == 1
    assert fetch(daemon, "/static/project/settings.py")[0] == 404
    daemon.sites["blog"] = good.replace('"/static/" =', '"/files/" =')
    daemon.write()
    checked = daemon.run("check")
    assert checked.status == 0, checked.stderr
    assert "does not exist yet" in checked.stderr, "the folder of the uploads"
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: daemon.status("blog")["generation"] == 2, "generation 2")
    wait_for(lambda: fetch(daemon, "/files/site.css")[1] == b"one", "the files at their new place")
    wait_for(lambda: fetch(daemon, "/static/site.css")[0] == 404, "nothing at the old one")
