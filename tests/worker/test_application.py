from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from djsup_worker import application
from djsup_worker.boot import SiteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANAGE_PY = """
import os, sys
def main():
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings.production')
"""


@pytest.fixture(autouse=True)
def clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    "line",
    [
        'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a.b_c")',
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE','a.b_c')",
        'environ.setdefault(\n        "DJANGO_SETTINGS_MODULE",\n        "a.b_c",\n    )',
        'os.environ["DJANGO_SETTINGS_MODULE"] = "a.b_c"',
    ],
)
def test_manage_py_names_the_settings(tmp_path: Path, line: str) -> None:
    (tmp_path / "manage.py").write_text(f"def main():\n    {line}\n")
    assert application.settings_named_by_manage_py(str(tmp_path)) == "a.b_c"


def test_a_manage_py_without_settings_names_none(tmp_path: Path) -> None:
    assert application.settings_named_by_manage_py(str(tmp_path)) is None
    (tmp_path / "manage.py").write_bytes(b"\xff\xfe nothing")
    assert application.settings_named_by_manage_py(str(tmp_path)) is None


def test_an_application_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "named.py").write_text(
        "class Made:\n    def serve(self, e, s): return []\nmade = Made()\napplication = print\n"
    )
    loaded = application.load(str(tmp_path), "named:made.serve", None)
    assert loaded.application.__name__ == "serve"
    assert application.load(str(tmp_path), "named", None).application.__name__ == "print"
    assert (loaded.wsgi, loaded.settings, loaded.django) == ("named:made.serve", "", "")


@pytest.mark.parametrize(
    ("wsgi", "told"),
    [
        ("named:missing", 'the module "named" has no "missing"'),
        ("named:number", '"named:number" is a int, not a WSGI application'),
        (None, "nothing names the application"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, wsgi: str | None, told: str) -> None:
    (tmp_path / "named.py").write_text("number = 1\n")
    with pytest.raises(SiteError) as caught:
        application.load(str(tmp_path), wsgi, None)
    line, has_more = application.origin(caught.value)
    assert told in line
    assert not has_more


def test_an_exception_of_the_site_keeps_its_traceback() -> None:
    assert application.origin(ValueError("no")) == ("ValueError: no", True)


def test_the_settings_are_told_to_django(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "from.the.environment")
    (tmp_path / "manage.py").write_text(MANAGE_PY)
    (tmp_path / "seen.py").write_text(
        "import os\nseen = os.environ['DJANGO_SETTINGS_MODULE']\napplication = print\n"
    )
    assert application.load(str(tmp_path), "seen", None).settings == "from.the.environment"
    assert application.load(str(tmp_path), "seen", "configured").settings == "configured"
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    assert application.load(str(tmp_path), "seen", None).settings == "shop.settings.production"
