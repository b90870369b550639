"""Valid configurations: what each key becomes in the settings."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from djsup.config import access_format
from djsup.core.model import (
    AccessSettings,
    Address,
    AddressKind,
    Canary,
    DashboardSettings,
    Health,
    Limits,
    LogSettings,
    Preload,
    ProgramReload,
    ProgramSettings,
    ReloadPolicy,
    SiteName,
    SiteSettings,
    StaticFolder,
    WorkerCount,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djsup.config import Loaded


def site(loaded: Loaded, name: str = "blog") -> SiteSettings:
    found = loaded.settings.site(SiteName(name))
    assert found is not None
    return found


def test_least_configuration_gets_every_default(
    load: Callable[[str], Loaded], folder: Path, not_root: int
) -> None:
    loaded = load('[sites.blog]\ndirectory = "blog"\nlisten = ["127.0.0.1:8001"]\n')
    settings = loaded.settings
    assert loaded.warnings == ()
    assert settings.file == str(folder / "djsup.toml")
    assert settings.runtime_dir == "/run/user/7/djsup"
    assert settings.dashboard is None
    assert settings.log == LogSettings()
    assert settings.orphan_grace_s == 60.0
    assert settings.sites == (
        SiteSettings(
            name=SiteName("blog"),
            directory=str(folder / "blog"),
            python=sys.executable,
            listen=(Address(AddressKind.TCP, "127.0.0.1", 8001),),
        ),
    )


def test_every_key_arrives(load: Callable[[str], Loaded], folder: Path, not_root: int) -> None:
    (folder / ".env").write_text("FROM_FILE=1\nDEBUG=1\n")
    settings = load(
        """
        runtime_dir = "/run/x"
        orphan_grace = "2m"
        [dashboard]
        listen = "127.0.0.1:9000"
        token_file = "secret/../token"
        [log]
        format = "json"
        directory = "logs"
        access = "combined"
        access_exclude = ["/static/*"]
        request_id = true
        [sites.blog]
        directory = "blog"
        wsgi = "blog.wsgi:application"
        settings = "blog.settings"
        env = { DEBUG = "0" }
        env_file = ".env"
        hosts = ["Blog.Example.com.", "*.example.org"]
        default = true
        before_reload = "make check"
        after_reload = "make warm"
        hook_timeout = "1m"
        listen = ["[::1]:8001", "unix:run/blog.sock", "fd:web"]
        workers = { min = 2, max = 8 }
        threads = 7
        preload = true
        [sites.blog.limits]
        request_timeout = 31
        soft_timeout = "20s"
        max_timeout = "2h"
        boot_timeout = "1.5m"
        drain_timeout = 32.5
        stable_after = "500ms"
        max_requests = 1000
        max_memory = "512MiB"
        max_lifetime = "12h"
        max_body = "1GB"
        max_header = "64KiB"
        keepalive = 16
        header_timeout = 11
        body_timeout = 33
        write_timeout = 61
        [sites.blog.health]
        path = "/healthz?full=1"
        expect = 204
        host = "blog.example.com"
        [sites.blog.reload]
        surge = 2
        keep_previous = "10m"
        canary = { workers = 2, seconds = "1m", max_error_rate = 0.5, max_slowdown = 3, min_requests = 7 }
        [sites.blog.programs.celery]
        command = "celery -A blog worker"
        instances = 2
        env = { A = "b" }
        stop_signal = "QUIT"
        stop_timeout = "5m"
        reload = "hup"
        notify = true
        start_timeout = "2m"
        watchdog = 30
        [sites.blog.programs.sessions]
        command = "django-admin clearsessions"
        schedule = " 0  3 * * mon-fri"
        timeout = "1h"
        [sites.blog.log]
        access = "%m 100%%"
        access_exclude = ["/healthz"]
        request_id = "respond"
        """
    ).settings
    assert settings.runtime_dir == "/run/x"
    assert settings.orphan_grace_s == 120
    assert settings.dashboard == DashboardSettings(
        Address(AddressKind.TCP, "127.0.0.1", 9000), str(folder / "token")
    )
    assert settings.log == LogSettings("json", str(folder / "logs"), "combined")
    assert settings.sites == (
        SiteSettings(
            name=SiteName("blog"),
            directory=str(folder / "blog"),
            python=sys.executable,
            listen=(
                Address(AddressKind.TCP, "::1", 8001),
                Address(AddressKind.UNIX, str(folder / "run/blog.sock")),
                Address(AddressKind.FD, "web"),
            ),
            wsgi="blog.wsgi:application",
            settings="blog.settings",
            env=(("FROM_FILE", "1"), ("DEBUG", "0")),
            hosts=("blog.example.com", "*.example.org"),
            default=True,
            workers=WorkerCount(2, 8),
            threads=7,
            preload=Preload.ALWAYS,
            limits=Limits(
                request_timeout_s=31,
                soft_timeout_s=20,
                max_timeout_s=7200,
                boot_timeout_s=90,
                drain_timeout_s=32.5,
                stable_after_s=0.5,
                max_requests=1000,
                max_memory_bytes=512 * 2**20,
                max_lifetime_s=12 * 3600,
                max_body_bytes=10**9,
                max_header_bytes=64 * 1024,
                keepalive_s=16,
                header_timeout_s=11,
                body_timeout_s=33,
                write_timeout_s=61,
            ),
            health=Health("/healthz?full=1", 204, "blog.example.com"),
            reload=ReloadPolicy(2, 600, Canary(2, 60, 0.5, 3.0, 7), "make check", "make warm", 60),
            programs=(
                ProgramSettings(
                    "celery",
                    "celery -A blog worker",
                    2,
                    (("A", "b"),),
                    None,
                    "QUIT",
                    300,
                    reload=ProgramReload.HUP,
                    notify=True,
                    start_timeout_s=120,
                    watchdog_s=30,
                ),
                ProgramSettings(
                    "sessions", "django-admin clearsessions", schedule="0 3 * * mon-fri", timeout_s=3600
                ),
            ),
            access=AccessSettings("%m 100%%", ("", "m", " 100%"), ("/healthz",), "respond"),
        ),
    )
    assert [str(address) for address in settings.sites[0].listen] == [
        "[::1]:8001",
        f"unix:{folder}/run/blog.sock",
        "fd:web",
    ]


BLOG = '[sites.blog]\ndirectory = "blog"\nlisten = ["127.0.0.1:8001"]\n'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3", WorkerCount(3, 3)),
        ('"auto"', WorkerCount(len(os.sched_getaffinity(0)), len(os.sched_getaffinity(0)))),
        ("{ max = 8 }", WorkerCount(0, 8)),
        ("{ min = 2, max = 2 }", WorkerCount(2, 2)),
    ],
)
def test_workers_are_a_number_or_one_a_core_or_between_bounds(
    load: Callable[[str], Loaded], written: str, expected: WorkerCount
) -> None:
    assert site(load(f"{BLOG}workers = {written}\n")).workers == expected


@pytest.mark.parametrize(
    ("written", "expected"), [('"auto"', Preload.AUTO), ("true", Preload.ALWAYS), ("false", Preload.NEVER)]
)
def test_preload_has_three_values(load: Callable[[str], Loaded], written: str, expected: Preload) -> None:
    assert site(load(f"{BLOG}preload = {written}\n")).preload is expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('"127.0.0.1:80"', "127.0.0.1:80"),
        ('"localhost:80"', "127.0.0.1:80"),
        ('"0.0.0.0:65535"', "0.0.0.0:65535"),
        ('"[::]:80"', "[::]:80"),
        ('"[2001:DB8:0::1]:80"', "[2001:db8::1]:80"),
        ('"unix:/run/x.sock"', "unix:/run/x.sock"),
        ('"fd:web-1"', "fd:web-1"),
    ],
)
def test_address_is_read_and_written_in_one_form(
    load: Callable[[str], Loaded], written: str, expected: str
) -> None:
    loaded = load(f'[sites.blog]\ndirectory = "blog"\nlisten = [{written}]\n')
    assert [str(address) for address in site(loaded).listen] == [expected]


def test_the_one_site_without_listen_gets_the_shared_addresses(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        listen = ["127.0.0.1:8000", "unix:shared.sock"]
        [sites.blog]
        directory = "blog"
        [sites.shop]
        directory = "shop"
        listen = ["127.0.0.1:8001"]
        """
    )
    assert [address.port for address in site(loaded).listen] == [8000, 0]
    assert [address.port for address in site(loaded, "shop").listen] == [8001]


# --- python ------------------------------------------------------------------------------------


def virtualenv(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder / "bin" / "python"


def test_static_folders_are_paths_or_tables_relative_to_the_file(
    load: Callable[[str], Loaded], folder: Path, not_root: int
) -> None:
    (folder / "blog/static").mkdir()
    loaded = load(
        """
        [sites.blog]
        directory = "blog"
        listen = ["127.0.0.1:8001"]
        [sites.blog.static]
        "/" = "blog/static"
        "/.well-known/" = { path = "~/blog/static" }
        "/media/deep/" = { path = "blog/media", changes = true }
        """
    )
    static = str(folder / "blog/static")
    assert site(loaded).static == (
        StaticFolder("/", static),
        StaticFolder("/.well-known/", static),
        StaticFolder("/media/deep/", str(folder / "blog/media"), changes=True),
    )
    (warning,) = loaded.warnings
    assert f"{folder}/blog/media does not exist yet" in str(warning)


@pytest.mark.parametrize("name", [".venv", "venv"])
def test_virtualenv_in_the_directory_is_found(load: Callable[[str], Loaded], folder: Path, name: str) -> None:
    python = virtualenv(folder / "blog" / name)
    assert site(load(BLOG)).python == str(python)


def test_python_may_be_a_virtualenv_and_its_links_are_kept(
    load: Callable[[str], Loaded], folder: Path
) -> None:
    python = virtualenv(folder / "envs" / "blog")
    assert site(load(BLOG + 'python = "envs/blog"\n')).python == str(python)


def test_python_may_be_an_interpreter(load: Callable[[str], Loaded]) -> None:
    assert site(load(BLOG + f'python = "{sys.executable}"\n')).python == sys.executable


# --- variables, paths, includes ----------------------------------------------------------------


def test_variables_are_filled_in_anywhere_in_strings(
    load: Callable[[str], Loaded], environ: dict[str, str]
) -> None:
    environ |= {"WHERE": "blog", "PORT": "8002", "EMPTY": ""}
    loaded = load(
        """
        [sites.blog]
        directory = "${WHERE}"
        listen = ["127.0.0.1:${PORT}"]
        env = { A = "${EMPTY}x${WHERE}", B = "$${WHERE} $WHERE $$ {}" }
        """
    )
    assert site(loaded).directory.endswith("/blog")
    assert site(loaded).listen[0].port == 8002
    assert dict(site(loaded).env) == {"A": "xblog", "B": "${WHERE} $WHERE $$ {}"}


def test_value_of_a_variable_is_not_filled_in_again(
    load: Callable[[str], Loaded], environ: dict[str, str]
) -> None:
    environ["A"] = "${HOME}"
    assert dict(site(load(BLOG + 'env = { X = "${A}" }\n')).env) == {"X": "${HOME}"}


def test_tilde_is_the_home_directory(load: Callable[[str], Loaded], folder: Path) -> None:
    loaded = load('[sites.blog]\ndirectory = "~/blog"\nlisten = ["unix:~/s"]\n')
    assert site(loaded).directory == str(folder / "blog")
    assert site(loaded).listen[0].host == str(folder / "s")


def test_included_files_bring_sites_and_tables_with_paths_of_their_own(
    load: Callable[[str], Loaded], folder: Path
) -> None:
    (folder / "sites").mkdir()
    (folder / "sites" / "env").write_text("A=1")
    (folder / "sites" / "shop.toml").write_text(
        '[sites.shop]\ndirectory = "../shop"\nenv_file = "env"\nlisten = ["unix:shop.sock"]\n'
    )
    (folder / "log.toml").write_text('include = ["sites/*.toml"]\n[log]\nformat = "json"\n')
    loaded = load('include = ["log.toml", "sites/*.toml", "none/*.toml"]\n' + BLOG)
    assert {each.name for each in loaded.settings.sites} == {"blog", "shop"}
    assert loaded.settings.log.format == "json"
    assert site(loaded, "shop").directory == str(folder / "shop")
    assert site(loaded, "shop").env == (("A", "1"),)
    assert site(loaded, "shop").listen[0].host == str(folder / "sites" / "shop.sock")


# --- defaults of the machine -------------------------------------------------------------------


def test_runtime_dir_of_root_is_in_run(load: Callable[[str], Loaded], root: None) -> None:
    assert load(BLOG + 'user = "root"\n').settings.runtime_dir == "/run/djsup"


def test_runtime_dir_without_a_session_is_private_in_tmp(
    load: Callable[[str], Loaded], environ: dict[str, str], not_root: int
) -> None:
    del environ["XDG_RUNTIME_DIR"]
    assert load(BLOG).settings.runtime_dir.endswith(f"/djsup-{not_root}")


def test_token_file_is_beside_the_configuration_by_default(
    load: Callable[[str], Loaded], folder: Path
) -> None:
    dashboard = load(BLOG + "[dashboard]\n").settings.dashboard
    assert dashboard is not None
    assert dashboard.token_file == str(folder / "djsup.token")
    assert str(dashboard.listen) == "127.0.0.1:9000"
    assert not dashboard.metrics_public


LOG = '[log]\ndirectory = "logs"\n'


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (LOG, AccessSettings("combined", access_format.parse(access_format.COMBINED))),
        (LOG + 'access = "json"\nrequest_id = true', AccessSettings("json", request_id="on")),
        (LOG + 'access = "off"\naccess_exclude = ["/x"]', AccessSettings("off", exclude=("/x",))),
        (LOG + '[sites.blog.log]\naccess = "off"\nrequest_id = false', AccessSettings()),
        ("", AccessSettings()),
        ('[log]\naccess = "json"\nrequest_id = "respond"', AccessSettings(request_id="respond")),
    ],
)
def test_site_logs_as_it_says_else_as_all_do(
    load: Callable[[str], Loaded], written: str, expected: AccessSettings
) -> None:
    assert load(BLOG + written + "\n").settings.sites[0].access == expected


# --- warnings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "line", "key"),
    [
        ("default = true", 4, "sites.blog.default"),
        ("scaling.down_after = 5", 4, "sites.blog.scaling.down_after"),
        ("workers = { min = 1, max = 2 }\nscaling.sleep_after = 5", 5, "sites.blog.scaling.sleep_after"),
        ('[log]\naccess = "json"', 5, "log.access"),
        ('[sites.blog.log]\naccess = "combined"', 5, "sites.blog.log.access"),
    ],
)
def test_setting_without_effect_is_warned_of_at_its_place(
    load: Callable[[str], Loaded], not_root: int, folder: Path, written: str, line: int, key: str
) -> None:
    loaded = load(f"{BLOG}{written}\n")
    assert [(each.file, each.line, each.key) for each in loaded.warnings] == [
        (str(folder / "djsup.toml"), line, key)
    ]


@pytest.mark.parametrize(
    "written",
    [
        "default = false",
        "workers = { min = 2, max = 2 }",
        "workers = 3",
        "limits.soft_timeout = 3",
        "limits.max_lifetime = 60",
        "limits.max_memory = 1",
        '[log]\naccess = "off"',
        '[log]\ndirectory = "logs"\naccess = "json"',
        '[sites.blog.log]\naccess = "off"',
    ],
)
def test_setting_with_its_effect_is_not_warned_of(
    load: Callable[[str], Loaded], not_root: int, written: str
) -> None:
    assert load(f"{BLOG}{written}\n").warnings == ()


def test_socket_from_outside_is_an_address_as_any_other(load: Callable[[str], Loaded], not_root: int) -> None:
    loaded = load('[sites.blog]\ndirectory = "blog"\nlisten = ["127.0.0.1:80", "fd:a"]\n')
    assert [str(each) for each in loaded.settings.sites[0].listen] == ["127.0.0.1:80", "fd:a"]
    assert loaded.warnings == ()


def test_shared_addresses_that_nobody_uses_are_warned_of(
    load: Callable[[str], Loaded], not_root: int
) -> None:
    (warning,) = load('listen = ["127.0.0.1:8000"]\n' + BLOG).warnings
    assert "every site has a listen of its own" in str(warning)


def test_site_that_would_run_as_root_is_warned_of(load: Callable[[str], Loaded], root: None) -> None:
    (warning,) = load(BLOG).warnings
    assert (warning.key, warning.line) == ("sites.blog.user", 1)
    assert "runs as root" in str(warning)


def test_configuration_without_sites_is_valid_and_warned_of(load: Callable[[str], Loaded]) -> None:
    loaded = load("")
    assert loaded.settings.sites == ()
    assert "no site" in str(loaded.warnings[0])


def test_sites_that_name_no_trusted_proxies_have_those_at_the_top(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        """
        trusted_proxies = ["10.0.0.7", "fd00:0::/8", "unix"]
        [sites.blog]
        directory = "blog"
        listen = ["127.0.0.1:8001"]
        proxy_protocol = true
        [sites.shop]
        directory = "shop"
        listen = ["127.0.0.1:8002"]
        trusted_proxies = []
        """
    )
    blog, shop = site(loaded), site(loaded, "shop")
    assert (blog.trusted_proxies, blog.proxy_protocol) == (("10.0.0.7/32", "fd00::/8", "unix"), True)
    assert (shop.trusted_proxies, shop.proxy_protocol) == ((), False)


def test_trusting_every_address_is_warned_of(load: Callable[[str], Loaded]) -> None:
    loaded = load(
        '[sites.blog]\ndirectory = "blog"\nlisten = ["127.0.0.1:8001"]\ntrusted_proxies = ["0.0.0.0/0"]\n'
    )
    assert any("trusts every address" in str(warning) for warning in loaded.warnings)


def test_a_dashboard_behind_a_proxy_gets_its_names_path_and_proxies(
    load: Callable[[str], Loaded], folder: Path
) -> None:
    top = 'trusted_proxies = ["127.0.0.1"]\n[dashboard]\n'
    settings = load(
        top + 'read_token_file = "look"\nhosts = ["OPS.example.com"]\nprefix = "/a/djsup/"\n'
    ).settings
    dashboard = settings.dashboard
    assert dashboard is not None
    assert (dashboard.read_token_file, dashboard.hosts) == (str(folder / "look"), ("ops.example.com",))
    assert (dashboard.prefix, dashboard.trusted_proxies) == ("/a/djsup", ("127.0.0.1/32",))
    own = load(top + 'trusted_proxies = ["unix"]\n').settings.dashboard
    assert own is not None
    assert (own.prefix, own.hosts, own.trusted_proxies, own.read_token_file) == ("", (), ("unix",), None)
