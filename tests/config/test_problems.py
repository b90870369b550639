"""Mistakes: each is found, at its place, and all of them at once."""

from __future__ import annotations

import grp
import os
import pwd
from typing import TYPE_CHECKING

import pytest

from djsup import config
from djsup.config.problem import Problem, in_order

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djsup.config import Loaded

PROGRAM = '[sites.blog.programs.x]\ncommand = "x"\n'
BLOG = '[sites.blog]\ndirectory = "blog"\nlisten = ["127.0.0.1:8001"]\n'


def test_all_mistakes_are_reported_at_once_in_order(problems: Callable[[str], list[Problem]]) -> None:
    found = problems(
        """\
        oprhan_grace = 3
        listen = "127.0.0.1:8000"
        [sites.blog]
        directory = "blog"
        workers = "many"
        wrokers = 3
        listen = ["127.0.0.1:8001", "8002", "unix:${NOPE}"]
        limits = { max_body = "10 cows" }
        [sites.shop]
        directory = "${NOPE}"
        listen = ["127.0.0.1:8001"]
        python = "none"
        health.path = "healthz"
        [sites.empty]
        """
    )
    assert [(each.line, each.key) for each in found] == [
        (1, "oprhan_grace"),
        (2, "listen"),
        (5, "sites.blog.workers"),
        (6, "sites.blog.wrokers"),
        (7, "sites.blog.listen[1]"),
        (7, "sites.blog.listen[2]"),
        (8, "sites.blog.limits.max_body"),
        (10, "sites.shop.directory"),
        (12, "sites.shop.python"),
        (13, "sites.shop.health.path"),
        (14, "sites.empty.directory"),
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            'workers = "many"',
            'sites.blog.workers: found "many"; allowed: a whole number from 1 to 120, "auto", or { min = 0, max = 8 }',
        ),
        ("wrokers = 1", 'sites.blog.wrokers: unknown key; did you mean "workers"?'),
        (
            "request_timeout = 1",
            "sites.blog.request_timeout: unknown key here; it belongs in [sites.blog.limits]",
        ),
        ("limits.threads = 1", "sites.blog.limits.threads: unknown key here; it belongs in [sites.blog]"),
        ("limits.runtime_dir = 1", "unknown key here; it belongs at the top of the file"),
        ("reload.zzz = 1", "sites.blog.reload.zzz: unknown key; known here: surge, keep_previous, canary"),
        (
            "reload.canary = { workers = 2 }",
            "sites.blog.reload.canary.workers: found 2; is above surge (1): no worker of the old code goes before",
        ),
        ('before_reload = "echo \'"', "sites.blog.before_reload"),
        ("workers = 0", "found 0; allowed: a whole number from 1 to 120"),
        (
            'trusted_proxies = ["10.0.0.1/8"]',
            'sites.blog.trusted_proxies[0]: found "10.0.0.1/8"; allowed: an address or network as "10.0.0.7"',
        ),
        ('trusted_proxies = ["10.0.0.1/8"]', 'the network that holds 10.0.0.1 is "10.0.0.0/8"'),
        ('trusted_proxies = ["nginx"]', '"nginx" is no IP network; names are not looked up'),
        ("trusted_proxies = [10]", "a network is a text: put it in quotes"),
        ("proxy_protocol = true", "sites.blog.proxy_protocol: found true; needs trusted_proxies"),
        ("workers = true", "found true; allowed: a whole number"),
        ("workers = { min = 3, max = 2 }", "found { min = 3, max = 2 }"),
        ("workers = { min = 3, max = 2 }", "min is greater than max"),
        ("workers = { min = 3 }", '"max" is missing'),
        ("workers = { mn = 3, max = 4 }", 'unknown key "mn"; did you mean "min"?'),
        ("threads = 65", "found 65; allowed: a whole number from 1 to 64"),
        ("threads = 1.0", "found 1.0; allowed: a whole number"),
        ('preload = "ato"', 'found "ato"; allowed: "auto", true or false\n    did you mean "auto"?'),
        ("preload = 1", "found 1; allowed:"),
        ('default = "yes"', 'found "yes"; allowed: true or false'),
        ('limits.request_timeout = "5 parsecs"', 'unknown unit "parsecs"; known: ms, s, m, min, h, d'),
        ("limits.request_timeout = 0", "from 0.1s to 7d"),
        ("limits.request_timeout = nan", "found nan; allowed: seconds"),
        ("limits.request_timeout = -1", "found -1; allowed: seconds"),
        ("limits.soft_timeout = 30", "must be shorter than request_timeout (30 s)"),
        (
            'limits.max_header = "2MiB"',
            'found "2MiB"; allowed: bytes or a text as "512MiB", "1GB", from 1KiB to 1MiB',
        ),
        ("limits.max_body = 1.5", "half a byte is none"),
        ("limits = 3", "found 3; allowed: a table with the keys request_timeout, "),
        ('health.path = "healthz"', 'found "healthz"; allowed: a path that begins with "/"'),
        ("health.expect = 99", "found 99; allowed: a whole number from 200 to 599"),
        ('wsgi = "blog.wsgi.application"', 'write "blog.wsgi:application"'),
        ('settings = "blog/settings.py"', 'allowed: a module, as "blog.settings"'),
        ('hosts = ["http://x"]', 'sites.blog.hosts[0]: found "http://x"; allowed: a host name without port'),
        ('hosts = "x"', 'found "x"; allowed: a list\n    write ["x"]'),
        ('env = { "A B" = "1" }', 'sites.blog.env."A B": found "A B"; allowed: a name of letters'),
        (
            'static = { "static/" = "pub" }',
            'sites.blog.static."static/": found "static/"; allowed: a path that begins and ends with "/"',
        ),
        ('static = { "/static" = "pub" }', 'found "/static"; allowed: a path that begins and ends with "/"'),
        ('static = { "/../" = "pub" }', "allowed: a path that begins and ends"),
        ('static = { "/a//" = "pub" }', "allowed: a path that begins and ends"),
        ('static = { "/%2e/" = "pub" }', "allowed: a path that begins and ends"),
        (
            'static = { "/s/" = 3 }',
            'sites.blog.static."/s/": found 3; allowed: a path in quotes, or { path = "media", changes = true }',
        ),
        ('static = { "/s/" = { changes = true } }', '"path" is missing'),
        (
            'static = { "/s/" = { path = "pub", chnges = true } }',
            'unknown key "chnges"; did you mean "changes"?',
        ),
        ('static = { "/s/" = { path = "pub", changes = 1 } }', "allowed: a path in quotes, or {"),
        ('static = { "/s/" = "nowhere" }', "/nowhere does not exist; run manage.py collectstatic"),
        ('static = { "/s/" = "djsup.toml" }', "/djsup.toml is no folder"),
        ('static = { "/s/" = { path = "djsup.toml", changes = true } }', "/djsup.toml is no folder"),
        ('static = { "/s/" = "${NOPE}" }', "the environment variable NOPE is not set"),
        ('static = "pub"', "sites.blog.static: found"),
        (
            'log.access = "jsno"',
            'sites.blog.log.access: found "jsno"; allowed: "combined", "json", "off" or a format',
        ),
        ('log.access = "%m %d"', "%d is no directive; did you mean %D?"),
        ('log.access_exclude = ["healthz"]', 'allowed: a path that begins with "/"'),
        ('log.request_id = "echo"', 'allowed: true, false or "respond"'),
        ("[sites.blog.programs.x]", "sites.blog.programs.x.command: is missing: the command"),
        (
            '[sites.blog.programs.x]\ncommand = "x"\nstop_signal = "STOP"',
            'found "STOP"; allowed: "TERM", "INT"',
        ),
        ('[sites.blog.programs.x]\ncommand = "x \'y"', "it cannot be split into words: No closing quotation"),
        ('[sites.blog.programs.x]\ncommand = " "', "it is empty"),
        (f'{PROGRAM}schedule = "0 3 * *"', "it has 4"),
        (f'{PROGRAM}schedule = "@daily"', "write the five fields out"),
        (f'{PROGRAM}schedule = "0 25 * * *"', "bad hour"),
        (f'{PROGRAM}schedule = "0 0 31 2 *"', "bad day-of-month"),
        (f'{PROGRAM}schedule = "0 3 * * *"\ninstances = 2', "is for a program that is kept running"),
        (f'{PROGRAM}schedule = "0 3 * * *"\nnotify = true', "is for a program that is kept running"),
        (f"{PROGRAM}timeout = 3", "is for a program with a schedule"),
        (f"{PROGRAM}start_timeout = 3", "has no meaning without notify = true"),
        (f'{PROGRAM}reload = "maybe"', 'found "maybe"; allowed: "restart", "hup" or "none"'),
        (
            '[sites.Blog]\ndirectory = "x"',
            'sites.Blog: found "Blog"; allowed: a name of at most 32 characters',
        ),
        ('[dashboard]\nlisten = "unix:/x"', "only a host and a port can be listened on here"),
        ("[site.x]", 'site: unknown key; did you mean "sites"?'),
        ("[[log]]", "allowed: a table with the keys format, directory, access"),
        ("when = 2026-01-02", "sites.blog.when: unknown key"),
        ("threads = 2026-01-02", "found 2026-01-02 (a date); allowed: a whole number"),
    ],
)
def test_mistake_is_said_with_key_found_and_allowed(
    problems: Callable[[str], list[Problem]], written: str, expected: str
) -> None:
    (problem,) = problems(f"{BLOG}{written}\n")
    assert expected in str(problem)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8001", 'the host is missing; as "127.0.0.1:8001"'),
        ("127.0.0.1", 'the port is missing; as "127.0.0.1:8000"'),
        ("[::1]", 'the port is missing; as "[::1]:8000"'),
        ("::1:8001", 'an IPv6 address stands in brackets; as "[::1]:8001"'),
        ("[::g]:1", '"::g" is no IPv6 address'),
        ("example.com:80", '"example.com" is no IP address'),
        ("300.0.0.1:80", '"300.0.0.1" is no IP address'),
        (":80", 'write "0.0.0.0:80"'),
        ("*:80", 'write "0.0.0.0:80"'),
        ("127.0.0.1:0", '"0" is no port'),
        ("127.0.0.1:65536", '"65536" is no port'),
        ("127.0.0.1:http", '"http" is no port'),
        ("unix:", "the path is missing"),
        ("fd:", 'belongs behind "fd:"'),
        ("unix:/" + "x" * 107, "at most 107"),
    ],
)
def test_address_that_is_none_is_explained(
    problems: Callable[[str], list[Problem]], address: str, expected: str
) -> None:
    (problem,) = problems(f'[sites.blog]\ndirectory = "blog"\nlisten = ["{address}"]\n')
    assert (problem.line, problem.key) == (3, "sites.blog.listen[0]")
    assert expected in str(problem)


# --- files and folders -------------------------------------------------------------------------


def test_problem_names_file_and_line(problems: Callable[[str], list[Problem]], folder: Path) -> None:
    (problem,) = problems(f"{BLOG}wrokers = 3\n")
    assert str(problem) == f'{folder}/djsup.toml:4: sites.blog.wrokers: unknown key; did you mean "workers"?'


def test_syntax_error_shows_the_line_and_the_column(
    problems: Callable[[str], list[Problem]], folder: Path
) -> None:
    (problem,) = problems('[sites.blog]\ndirectory = "blog\n')
    assert (problem.line, problem.column) == (2, 18)
    assert str(problem).splitlines()[1:] == ['    directory = "blog', " " * 4 + " " * 17 + "^"]
    assert str(problem).startswith(f"{folder}/djsup.toml:2:18: this is no TOML: ")


def test_syntax_error_at_the_end_of_the_file_is_shown(problems: Callable[[str], list[Problem]]) -> None:
    (problem,) = problems("listen = [")
    assert "this is no TOML" in str(problem)


def test_file_that_cannot_be_read_is_a_problem(folder: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"none.toml: cannot be read: No such file"):
        config.load(folder / "none.toml", {})
    with pytest.raises(config.ConfigError, match="cannot be read: Is a directory"):
        config.load(folder, {})
    (folder / "latin.toml").write_bytes(b'a = "\xe4"')
    with pytest.raises(config.ConfigError, match=r"it is no UTF-8 \(byte 5\)"):
        config.load(folder / "latin.toml", {})


@pytest.mark.parametrize("what", ["missing", "file"])
def test_directory_must_be_a_folder(
    problems: Callable[[str], list[Problem]], folder: Path, what: str
) -> None:
    (folder / "file").touch()
    (problem,) = problems(f'[sites.blog]\ndirectory = "{what}"\nlisten = ["127.0.0.1:8001"]\n')
    assert problem.found == f'"{what}"'
    assert str(problem).endswith(f"{folder}/{what} {'is no folder' if what == 'file' else 'does not exist'}")


def test_site_without_manage_py_must_name_its_application(
    problems: Callable[[str], list[Problem]], load: Callable[[str], Loaded], folder: Path
) -> None:
    (folder / "blog" / "manage.py").unlink()
    (problem,) = problems(BLOG)
    assert problem.key == "sites.blog.wsgi"
    assert f"{folder}/blog holds no manage.py" in str(problem)
    load(BLOG + 'wsgi = "app:app"\n')
    load(BLOG + 'settings = "blog.settings"\n')


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        ("nowhere", "/nowhere does not exist"),
        ("blog", "/blog is no virtualenv that works: there is no "),
        ("dangling", "points to nothing"),
        ("plain", "/plain can't be executed"),
        ("sh", '; for the one on PATH write "'),
    ],
)
def test_python_that_cannot_run_is_said_with_what_was_looked_for(
    problems: Callable[[str], list[Problem]], folder: Path, python: str, expected: str
) -> None:
    (folder / "plain").write_text("")
    (folder / "dangling" / "bin").mkdir(parents=True)
    (folder / "dangling" / "bin" / "python").symlink_to("/nowhere/python")
    (problem,) = problems(f'{BLOG}python = "{python}"\n')
    assert problem.key == "sites.blog.python"
    assert expected in str(problem)


def test_missing_env_file_is_a_problem(problems: Callable[[str], list[Problem]], folder: Path) -> None:
    (problem,) = problems(f'{BLOG}env_file = "x.env"\n')
    assert f"cannot read {folder}/x.env: No such file" in str(problem)


@pytest.mark.parametrize(
    ("served", "private"),
    [
        ("blog", "the site's directory"),
        (".", "the configuration"),
        ("/", "the configuration"),
        ("link", "the site's directory"),
        ("secrets", "env_file"),
        ("tokens", "the dashboard's token_file"),
    ],
)
def test_a_folder_of_static_files_with_something_private_in_it_is_a_problem(
    problems: Callable[[str], list[Problem]], folder: Path, served: str, private: str
) -> None:
    (folder / "link").symlink_to("blog")
    for name in ("secrets", "tokens"):
        (folder / name).mkdir()
    (folder / "secrets/x.env").touch()
    for value in (f'"{served}"', f'{{ path = "{served}", changes = true }}'):
        (problem,) = problems(
            f'{BLOG}env_file = "secrets/x.env"\nstatic = {{ "/s/" = {value} }}\n'
            '[dashboard]\ntoken_file = "tokens/token"\n'
        )
        assert (problem.key, problem.line) == ('sites.blog.static."/s/"', 5)
        assert f" holds {private} (" in str(problem)


@pytest.mark.parametrize(
    "name", ["manage.py", "settings.py", "settings/__init__.py", "wsgi.py", "db.sqlite3"]
)
def test_a_folder_of_static_files_with_code_or_data_is_a_problem(
    problems: Callable[[str], list[Problem]], folder: Path, name: str
) -> None:
    (folder / "pub" / name).parent.mkdir(parents=True)
    (folder / "pub" / name).touch()
    (problem,) = problems(f'{BLOG}static = {{ "/s/" = "pub" }}\n')
    assert f"holds {name}, which everybody could read at /s/{name}" in str(problem)


def test_bad_line_of_an_env_file_is_a_problem_of_that_file(
    problems: Callable[[str], list[Problem]], folder: Path
) -> None:
    (folder / "x.env").write_text("A=1\nsecret stuff\nB='open\n")
    found = problems(f'{BLOG}env_file = "x.env"\n')
    assert [(each.file, each.line) for each in found] == [(f"{folder}/x.env", 2), (f"{folder}/x.env", 3)]
    assert "secret" not in str(found[0])


def test_paths_too_long_for_a_socket_are_a_problem(problems: Callable[[str], list[Problem]]) -> None:
    (problem,) = problems(f'runtime_dir = "/run/{"x" * 100}"\n{BLOG}')
    assert (problem.key, problem.line) == ("runtime_dir", 1)
    assert "control.sock" in str(problem)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('prefix = "djsup"', 'dashboard.prefix: found "djsup"; allowed: a path that begins with "/"'),
        ('prefix = "/a b"', 'found "/a b"; allowed: a path'),
        ('prefix = "/api/x"', "is a path that the dashboard has itself"),
        ('hosts = ["https://x"]', 'dashboard.hosts[0]: found "https://x"; allowed: a host name without port'),
        ('hosts = ["*.example.com"]', "allowed: a host name without port"),
        ('trusted_proxies = ["nginx"]', '"nginx" is no IP network'),
        ('read_token_file = "missing/token"', "dashboard.read_token_file: found"),
        ('read_token_file = "djsup.token"', "is token_file, too: whoever may look could change everything"),
    ],
)
def test_mistake_about_the_dashboard_is_said(
    problems: Callable[[str], list[Problem]], written: str, expected: str
) -> None:
    (problem,) = problems(f"[dashboard]\n{written}\n[sites]\n")
    assert expected in str(problem)


def test_folders_of_dashboard_and_log_are_checked(
    problems: Callable[[str], list[Problem]], folder: Path
) -> None:
    (folder / "file").touch()
    text = '[dashboard]\ntoken_file = "none/token"\n[log]\ndirectory = "file"\n'
    assert [each.key for each in problems(BLOG + text)] == ["dashboard.token_file", "log.directory"]
    (problem,) = problems(BLOG + '[dashboard]\ntoken_file = "blog"\n')
    assert "is a folder" in str(problem)


# --- variables and secrets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${NOPE}", 'the environment variable NOPE is not set; write "$${NOPE}" for the text itself'),
        ("${NOPE", '"${" begins a variable'),
        ("${not a name}", '"${" begins a variable'),
        ("${}", '"${" begins a variable'),
    ],
)
def test_variable_that_cannot_be_filled_in_is_a_problem(
    problems: Callable[[str], list[Problem]], text: str, expected: str
) -> None:
    (problem,) = problems(f'{BLOG}env = {{ A = "{text}" }}\n')
    assert (problem.line, problem.key) == (4, "sites.blog.env.A")
    assert expected in str(problem)


def test_value_of_a_variable_is_not_shown(
    problems: Callable[[str], list[Problem]], environ: dict[str, str]
) -> None:
    environ["SECRET"] = "hunter2"
    (problem,) = problems(f'{BLOG}wsgi = "${{SECRET}}"\n')
    assert problem.found == '"${SECRET}"'
    assert "hunter2" not in str(problem)


def test_value_of_an_environment_is_not_shown(problems: Callable[[str], list[Problem]]) -> None:
    (problem,) = problems(f"{BLOG}env = {{ SECRET = 12345 }}\n")
    assert "12345" not in str(problem)
    assert "found a number; allowed: a text in quotes" in str(problem)


# --- several files -----------------------------------------------------------------------------


def test_circle_of_includes_is_a_problem(problems: Callable[[str], list[Problem]], folder: Path) -> None:
    (folder / "b.toml").write_text('include = ["djsup.toml"]\n')
    (problem,) = problems(f'include = ["b.toml"]\n{BLOG}')
    assert (problem.file, problem.line) == (f"{folder}/b.toml", 1)
    assert "a circle: " in str(problem)


def test_site_in_two_files_is_a_problem_that_names_both(
    problems: Callable[[str], list[Problem]], folder: Path
) -> None:
    (folder / "b.toml").write_text("\n" + BLOG)
    (problem,) = problems(f'include = ["b.toml"]\n{BLOG}')
    assert (
        str(problem)
        == f"{folder}/b.toml:2: sites.blog: is set already at {folder}/djsup.toml:2; keep one of them"
    )


def test_key_in_two_files_is_a_problem(problems: Callable[[str], list[Problem]], folder: Path) -> None:
    (folder / "b.toml").write_text('[log]\nformat = "json"\n')
    (problem,) = problems(f'include = ["b.toml"]\n{BLOG}[log]\n')
    assert (problem.file, problem.key) == (f"{folder}/b.toml", "log")


def test_included_file_that_is_named_must_exist(
    problems: Callable[[str], list[Problem]], folder: Path
) -> None:
    (problem,) = problems(f'include = ["none.toml"]\n{BLOG}')
    assert (problem.key, problem.line) == ("include[0]", 1)
    assert f"there is no file {folder}/none.toml" in str(problem)


def test_mistakes_of_all_files_are_reported(problems: Callable[[str], list[Problem]], folder: Path) -> None:
    (folder / "b.toml").write_text("a = \n")
    (folder / "c.toml").write_text(
        '[sites.shop]\ndirectory = "shop"\nlisten = ["127.0.0.1:1"]\nthreads = 0\n'
    )
    found = problems(f'include = ["b.toml", "c.toml"]\n{BLOG}threads = 0\n')
    assert {(each.file.rpartition("/")[2], each.line) for each in found} == {
        ("b.toml", 1),
        ("c.toml", 4),
        ("djsup.toml", 5),
    }


def test_include_must_be_a_list(problems: Callable[[str], list[Problem]]) -> None:
    (problem,) = problems(f'include = "b.toml"\n{BLOG}')
    assert "allowed: a list of paths" in str(problem)


# --- addresses of several sites ----------------------------------------------------------------


def test_address_used_twice_names_both_places(problems: Callable[[str], list[Problem]], folder: Path) -> None:
    shop = '[sites.shop]\ndirectory = "shop"\nlisten = ["127.0.0.1:8002", "localhost:8001"]\n'
    (problem,) = problems(BLOG + shop)
    assert (problem.line, problem.key) == (6, "sites.shop.listen[1]")
    assert (
        f"127.0.0.1:8001 is listened on twice: here and at {folder}/djsup.toml:3 (sites.blog.listen[0])"
        in str(problem)
    )


def test_dashboard_may_not_have_a_sites_address(problems: Callable[[str], list[Problem]]) -> None:
    (problem,) = problems(BLOG + '[dashboard]\nlisten = "127.0.0.1:8001"\n')
    assert problem.key == "dashboard.listen"


def test_site_without_any_address_is_a_problem(problems: Callable[[str], list[Problem]]) -> None:
    (problem,) = problems('[sites.blog]\ndirectory = "blog"\n')
    assert problem.key == "sites.blog.listen"
    assert "is missing: name an address" in str(problem)
    (problem,) = problems('[sites.blog]\ndirectory = "blog"\nlisten = []\n')
    assert "at least one address" in str(problem)


# --- users -------------------------------------------------------------------------------------


def test_another_user_needs_root(problems: Callable[[str], list[Problem]], not_root: int) -> None:
    found = problems(f'{BLOG}user = "root"\ngroup = "root"\n')
    assert [each.key for each in found] == ["sites.blog.user", "sites.blog.group"]
    assert f"only root can run a site as another user, and djsup runs as uid {not_root}" in str(found[0])


def test_own_user_and_group_may_be_named_without_root(load: Callable[[str], Loaded], not_root: int) -> None:
    try:
        user = pwd.getpwuid(not_root).pw_name
        group = grp.getgrgid(not_root).gr_name
    except KeyError:
        pytest.skip(f"uid or gid {not_root} has no name here")
    site = load(f'{BLOG}user = "{user}"\ngroup = "{group}"\n').settings.sites[0]
    assert (site.user, site.group) == (user, group)


def test_user_and_group_must_exist(problems: Callable[[str], list[Problem]], root: None) -> None:
    found = problems(
        f'{BLOG}user = "no-such-user"\ngroup = "no-such-group"\n[dashboard]\nuser = "no-such-user"\n'
    )
    assert [each.key for each in found] == ["sites.blog.user", "sites.blog.group", "dashboard.user"]
    assert "there is no user no-such-user on this machine" in str(found[0])


# --- the form of a problem ---------------------------------------------------------------------


def test_error_text_holds_every_problem() -> None:
    error = config.ConfigError([Problem(file="b", line=2, hint="x"), Problem(file="b", line=1, hint="y")])
    assert str(error) == "b:1: y\nb:2: x"


def test_same_problem_is_told_once() -> None:
    problem = Problem(file="f", line=1, hint="x")
    assert in_order([problem, problem]) == (problem,)


def test_long_values_are_cut(problems: Callable[[str], list[Problem]]) -> None:
    (problem,) = problems(f'{BLOG}workers = "{"x" * 1000}"\n')
    assert problem.found is not None
    assert len(problem.found) == 60


def test_configuration_is_checked_without_the_daemons_environment(
    load: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "ONLY_HERE", "blog")
    with pytest.raises(config.ConfigError, match="ONLY_HERE is not set"):
        load(f'{BLOG}env = {{ A = "${{ONLY_HERE}}" }}\n')
