"""Which path means a file, and which form of it is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from djsup_worker import folder as folder_module
from djsup_worker.boot import SiteError
from djsup_worker.folder import Folder

SECRET = b"nobody may read this"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files to serve, files to hide, and secrets around it."""
    root = tmp_path / "public"
    for name in ("css", "css/deep", ".git", "css/.hidden"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("a.css", "css/b.css", "css/deep/c.js", "d e.txt"):
        (root / name).write_bytes(b"public")
    (root / "ü.txt").write_bytes(b"public")
    for name in (".env", ".git/config", "css/.hidden/key"):
        (root / name).write_bytes(SECRET)
    for name in ("secret", "public-not/secret", "public.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(SECRET)
    return root


Look = Callable[..., "bytes | None"]


@pytest.fixture(params=[False, True], ids=["static", "media"])
def look(root: Path, request: pytest.FixtureRequest) -> Look:
    """What is served for a path, as the client sends it; None: no file."""
    folder = Folder("site", "/files/", str(root), changes=request.param)
    return lambda target, accept="": read(folder, target, accept)


def read(folder: Folder, target: str, accept: str = "") -> bytes | None:
    path = unquote_to_bytes(target).decode("latin-1")
    if not path.startswith(folder.prefix):
        return None
    opened = folder.open(path, accept)
    if opened is None:
        return None
    with os.fdopen(opened.fd, "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    "target",
    ["/files/a.css", "/files/css/b.css", "/files/css/deep/c.js", "/files/d%20e.txt", "/files/%C3%BC.txt",
     "/files/css%2Fb.css", "/f%69les/%61.css"],
)  # fmt: skip
def test_a_path_means_the_file_of_its_name(look: Look, target: str) -> None:
    assert look(target) == b"public"


@pytest.mark.parametrize(
    "target",
    [
        "/files/", "/files/css", "/files/css/", "/files/css/deep/",  # folders are not listed
        "/files/missing", "/files/a.css/", "/files/a.css/b", "/files/A.CSS", "/files/" + "x" * 5000,
        "/files//a.css", "/files/css//b.css", "//files/a.css",
        "/files/./a.css", "/files/css/./b.css", "/files/css/../a.css", "/files/css/.",
        "/files/../secret", "/files/../public/a.css", "/files/css/../../secret", "/files/..",
        "/files/%2e%2e/secret", "/files/%2E%2E%2Fsecret", "/files/..%2fsecret", "/files/css%2f..%2f..%2fsecret",
        "/files/%252e%252e/secret", "/files/..%252fsecret", "/files/%25%32%65%25%32%65/secret",
        "/files/..\\secret", "/files/..%5csecret", "/files/css\\b.css", "/files/css%5cb.css", "/files/%5c..%5csecret",
        "/files/a.css%00", "/files/a.css%00.txt", "/files/%00", "/files/..%00/secret",
        "/files/%c0%ae%c0%ae/secret", "/files/%c0%ae%c0%ae%c0%afsecret", "/files/%e0%80%ae%e0%80%ae/secret",
        "/files/..%c0%afsecret", "/files/%u002e%u002e/secret", "/files/%ef%bc%8e%ef%bc%8e/secret",
        "/files//etc/passwd", "/files/%2fetc%2fpasswd", "/files/~root/.profile", "/files/file:///etc/passwd",
        "/files/.env", "/files/%2eenv", "/files/.git/config", "/files/css/.hidden/key", "/files/.",
        "/files/...", "/files/a.css%0a", "/files/%0d%0aa.css", "/files/a.css%20", "/files/a.css.",
        "/files-not/secret", "/files.txt",
    ],
)  # fmt: skip
def test_a_path_that_is_no_plain_name_means_no_file(look: Look, target: str) -> None:
    assert look(target) is None


PIECES = st.one_of(
    st.sampled_from(
        ["a.css", "css", "deep", "c.js", "secret", ".env", ".git", "config", "..", ".", "/", "//", "\\", "%2e", "%2f",
         "%252e", "%5c", "%00", "%c0%ae", "%c0%af", "public", "public-not", "link", "etc", "passwd", "~", ";", "?"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=4),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(PIECES, max_size=8).map("".join))
@example("link/../../secret")
@example("css/%2e%2e/%2e%2e/secret")
def test_no_path_leads_to_a_secret(root: Path, look: Look, rest: str) -> None:
    if not (root / "link").is_symlink():
        (root / "link").symlink_to(root.parent)
    assert look("/files/" + rest) in (None, b"public")


# --- links ---


def test_a_link_is_followed_within_the_folder_only(look: Look, root: Path) -> None:
    for name, target in {
        "in": "a.css", "deep-in": "css/deep", "far": str(root / "css/b.css"), "up": "../public/a.css",
        "out": "../secret", "etc": "/etc", "parent": "..", "beside": "../public-not", "beside-file": "../public.txt",
        "hidden": ".env", "hidden-folder": ".git", "loop": "loop", "gone": "nowhere",
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    for target in ("in", "deep-in/c.js", "far", "up"):
        assert look("/files/" + target) == b"public", target
    for target in (
        "out", "etc/passwd", "parent/secret", "parent/public/.env", "beside/secret", "beside-file", "hidden",
        "hidden-folder/config", "loop", "gone",
    ):  # fmt: skip
        assert look("/files/" + target) is None, target


def test_a_file_that_is_replaced_by_a_link_out_is_not_served_any_more(look: Look, root: Path) -> None:
    assert look("/files/a.css") == b"public"
    (root / "a.css").unlink()
    (root / "a.css").symlink_to(root.parent / "secret")
    assert look("/files/a.css") is None
    (root / "css").rename(root / "old")
    (root / "css").symlink_to(root.parent / "public-not")
    assert look("/files/css/secret") is None
    assert look("/files/css/b.css") is None


def test_links_that_lead_out_are_named_at_the_start(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "out").symlink_to("/etc/passwd")
    (root / "css/round").symlink_to(root / "css")
    (root / "css/up").symlink_to(root.parent)
    Folder("shop", "/files/", str(root), changes=False)
    told = capsys.readouterr().err
    assert told.startswith('site "shop": static "/files/": not served, for they are links')
    assert told.endswith(": out\n")


def test_the_folder_itself_may_be_a_link(root: Path) -> None:
    (root.parent / "current").symlink_to(root)
    for changes in (False, True):
        folder = Folder("site", "/files/", str(root.parent / "current"), changes=changes)
        assert read(folder, "/files/a.css") == b"public"


def test_what_is_no_regular_file_is_not_served(look: Look, root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert look("/files/pipe") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_told_of(
    look: Look, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "a.css").chmod(0)
    assert look("/files/a.css") is None
    assert "a.css cannot be read: Permission denied" in capsys.readouterr().err


def test_a_folder_that_is_missing_is_the_owners_mistake_unless_it_may_come_later(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match='static "/files/": there is no folder'):
        Folder("site", "/files/", str(tmp_path / "later"), changes=False)
    folder = Folder("site", "/files/", str(tmp_path / "later"), changes=True)
    assert read(folder, "/files/new") is None
    (tmp_path / "later").mkdir()
    (tmp_path / "later/new").write_bytes(b"public")
    assert read(folder, "/files/new") == b"public"


# --- forms ---


@pytest.fixture
def compressed(root: Path) -> Path:
    (root / "a.css").write_bytes(b"a" * 100)
    os.utime(root / "a.css", (1_700_000_000, 1_700_000_000))
    (root / "a.css.gz").write_bytes(b"g" * 30)
    (root / "a.css.br").write_bytes(b"b" * 20)
    return root


@pytest.mark.parametrize(
    ("accept", "first"),
    [("", b"a"), ("gzip", b"g"), ("br", b"b"), ("gzip, deflate, br", b"b"), ("br;q=0, gzip", b"g"),
     ("gzip;q=0", b"a"), ("identity", b"a"), ("*", b"a"), ("gzipped", b"a")],
)  # fmt: skip
def test_the_smallest_form_that_the_client_accepts_is_sent(
    compressed: Path, accept: str, first: bytes
) -> None:
    folder = Folder("site", "/files/", str(compressed), changes=False)
    found = read(folder, "/files/a.css", accept)
    assert found is not None
    assert found[:1] == first


def test_each_form_has_a_tag_of_its_own_and_says_that_there_are_others(compressed: Path) -> None:
    folder = Folder("site", "/files/", str(compressed), changes=False)
    tags = set()
    for accept in ("", "gzip", "br"):
        opened = folder.open("/files/a.css", accept)
        assert opened is not None
        os.close(opened.fd)
        form = opened.representation
        tags.add(form.etag)
        assert form.last_modified == formatdate(form.modified_s, usegmt=True)
        assert ("Vary", "Accept-Encoding") in form.headers
        assert ("Vary", "Accept-Encoding") in form.kept_headers
        assert ("Content-Type", 'text/css; charset="utf-8"') in form.headers
        assert dict(form.headers).get("Content-Encoding", "") == form.coding
    assert len(tags) == 3


def test_a_compressed_form_is_no_file_of_its_own_unless_it_stands_alone(compressed: Path) -> None:
    folder = Folder("site", "/files/", str(compressed), changes=False)
    assert read(folder, "/files/a.css.gz") is None
    (compressed / "data.gz").write_bytes(b"alone")
    assert read(folder, "/files/data.gz") == b"alone"


def test_a_compressed_form_that_is_older_than_its_file_or_larger_is_not_sent(compressed: Path) -> None:
    os.utime(compressed / "a.css.br", (1, 1))
    (compressed / "a.css.gz").write_bytes(b"g" * 101)
    folder = Folder("site", "/files/", str(compressed), changes=False)
    assert read(folder, "/files/a.css", "gzip, br") == b"a" * 100


def test_an_upload_never_passes_for_the_compressed_form_of_another(compressed: Path) -> None:
    folder = Folder("site", "/files/", str(compressed), changes=True)
    assert read(folder, "/files/a.css", "gzip, br") == b"a" * 100
    assert read(folder, "/files/a.css.gz", "gzip, br") == b"g" * 30


def test_a_compressed_form_that_disappears_leaves_the_file(compressed: Path) -> None:
    folder = Folder("site", "/files/", str(compressed), changes=False)
    (compressed / "a.css.br").unlink()
    assert read(folder, "/files/a.css", "br") == b"a" * 100


# --- caching ---


def headers(folder: Folder, path: str) -> dict[str, str]:
    opened = folder.open(path, "")
    assert opened is not None
    os.close(opened.fd)
    return dict(opened.representation.headers)


def test_a_name_with_a_hash_of_djangos_manifest_may_be_kept_for_ever(root: Path) -> None:
    hashed = "css/b.0123456789ab.css"
    (root / hashed).write_bytes(b"public")
    (root / "report.202401011200.pdf").write_bytes(b"public")
    (root / "staticfiles.json").write_text(json.dumps({"version": "1.1", "paths": {"css/b.css": hashed}}))
    folder = Folder("site", "/files/", str(root), changes=False)
    assert headers(folder, "/files/" + hashed)["Cache-Control"] == "max-age=315360000, public, immutable"
    assert headers(folder, "/files/css/b.css")["Cache-Control"] == "max-age=60, public"
    assert headers(folder, "/files/report.202401011200.pdf")["Cache-Control"] == "max-age=60, public"
    media = Folder("site", "/files/", str(root), changes=True)
    assert headers(media, "/files/" + hashed)["Cache-Control"] == "max-age=0, public"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"paths": []}', '{"paths": {"a": 1}}'])
def test_a_broken_manifest_is_told_of_and_harms_nothing(
    root: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "staticfiles.json").write_text(text)
    assert headers(Folder("site", "/files/", str(root), changes=False), "/files/a.css")
    assert "staticfiles.json says nothing" in capsys.readouterr().err


def test_uploads_are_not_for_other_origins_and_nothing_is_sniffed(root: Path) -> None:
    static, media = (
        headers(Folder("site", "/files/", str(root), changes=changes), "/files/a.css")
        for changes in (False, True)
    )
    assert static["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in media
    assert static["X-Content-Type-Options"] == media["X-Content-Type-Options"] == "nosniff"


# --- changes ---


def test_a_file_that_changes_is_served_as_it_is_now(look: Look, root: Path) -> None:
    for content in (b"one", b"three", b"", b"four"):
        (root / "a.css").write_bytes(content)
        assert look("/files/a.css") == content
    (root / "new").write_bytes(b"replaced")
    (root / "new").rename(root / "a.css")
    assert look("/files/a.css") == b"replaced"
    (root / "a.css").unlink()
    assert look("/files/a.css") is None
    (root / "a.css").write_bytes(b"back")
    assert look("/files/a.css") == b"back"


def test_a_file_that_comes_later_is_found(look: Look, root: Path) -> None:
    """While a new generation takes over, its pages' files are asked of workers of the old one too."""
    assert look("/files/css/b.0123456789ab.css") is None
    (root / "css/b.0123456789ab.css").write_bytes(b"new")
    assert look("/files/css/b.0123456789ab.css") == b"new"


def test_a_file_without_a_time_has_a_tag(root: Path) -> None:
    os.utime(root / "a.css", (0, 0))
    found = headers(Folder("site", "/files/", str(root), changes=False), "/files/a.css")
    assert found["ETag"] == '"0-6"'
    assert "Last-Modified" not in found


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(folder_module, "FILES_KEPT_MAX", 4)
    return 4


def test_what_is_remembered_has_a_limit(root: Path, few: int) -> None:
    for number in range(20):
        (root / f"{number:02}").write_bytes(b"public")
    for changes in (False, True):
        folder = Folder("site", "/files/", str(root), changes=changes)
        assert len(folder._files) < few
        for number in range(20):
            assert read(folder, f"/files/{number:02}") == b"public"
            assert len(folder._files) <= few


def test_no_descriptor_is_left_open(look: Look, root: Path) -> None:
    (root / "out").symlink_to("/etc/passwd")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for target in ("a.css", "a.css", "css", "out", "missing", ".env"):
        look("/files/" + target)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
