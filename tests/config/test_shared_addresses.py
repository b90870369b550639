"""Sites that share the addresses at the top of the file: who gets them, and what cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from djsup.config import Loaded, Problem

TOP = 'listen = ["127.0.0.1:8000"]\n'


def site(name: str, more: str = "") -> str:
    return f'[sites.{name}]\ndirectory = "{name}"\n{more}\n'


def test_sites_without_listen_share_the_addresses(load: Callable[[str], Loaded]) -> None:
    found = load(TOP + site("blog", 'hosts = ["Blog.Example."]') + site("shop", 'mount = "/shop"')).settings
    assert [str(each) for each in found.shared] == ["127.0.0.1:8000"]
    assert [(each.listen, each.shared, each.hosts, each.mount) for each in found.sites] == [
        ((), found.shared, ("blog.example",), ""),
        ((), found.shared, (), "/shop"),
    ]


def test_a_site_that_is_alone_needs_no_router(load: Callable[[str], Loaded]) -> None:
    found = load(TOP + site("blog", 'hosts = ["blog.example"]')).settings
    assert (found.shared, found.sites[0].shared) == ((), ())
    assert [str(each) for each in found.sites[0].listen] == ["127.0.0.1:8000"]


def test_what_only_a_router_can_do_makes_one(load: Callable[[str], Loaded], folder: Path) -> None:
    top = TOP + 'redirects = { "www.blog.example" = "https://blog.example" }\nacme_dir = "acme"\n'
    found = load(top + site("blog")).settings
    assert found.sites[0].shared == found.shared
    assert found.redirects == (("www.blog.example", "https://blog.example"),)
    assert found.acme_dir == str(folder / "acme")


@pytest.mark.parametrize(
    ("blog", "shop", "key", "words"),
    [
        ('hosts = ["x.org"]', 'hosts = ["y.org", "X.org."]', "sites.shop.hosts[1]", "x.org is of two sites"),
        ('hosts = ["*.x.org"]', 'hosts = ["*.x.org"]', "sites.shop.hosts[0]", "(sites.blog.hosts[0])"),
        ("", "", "sites.shop", "every other host is of two sites"),
        ('mount = "/a"', 'mount = "/a"', "sites.shop", "every other host/a is of two sites"),
        (
            'hosts = ["x.org"]\ndefault = true',
            'hosts = ["y.org"]\ndefault = true',
            "sites.shop.default",
            "default)",
        ),
        (
            'hosts = ["x.org"]\nmount = "/a"',
            'hosts = ["x.org"]\nmount = "/a"',
            "sites.shop.hosts[0]",
            "x.org/a",
        ),
    ],
)
def test_two_sites_for_the_same_requests_are_a_mistake_with_both_places(
    problems: Callable[[str], list[Problem]], folder: Path, blog: str, shop: str, key: str, words: str
) -> None:
    (problem,) = problems(TOP + site("blog", blog) + site("shop", shop))
    assert problem.key == key
    assert words in str(problem)
    assert f"here and at {folder}/djsup.toml:" in str(problem)


def test_hosts_are_settled_as_clients_write_them(load: Callable[[str], Loaded]) -> None:
    top = TOP + 'redirects = { "WWW.Bücher.example." = "https://example.com" }\n'
    found = load(top + site("blog", 'hosts = ["Bücher.example", "*.bücher.example"]')).settings
    assert found.sites[0].hosts == ("xn--bcher-kva.example", "*.xn--bcher-kva.example")
    assert [host for host, _ in found.redirects] == ["www.xn--bcher-kva.example"]


def test_a_host_that_no_client_can_ask_for_is_a_mistake(problems: Callable[[str], list[Problem]]) -> None:
    top = TOP + f'redirects = {{ "{"é" * 64}.example" = "https://example.com" }}\n'
    found = problems(top + site("blog", f'hosts = ["x.org", "{"é" * 64}"]'))
    assert [each.key for each in found] == [f'redirects."{"é" * 64}.example"', "sites.blog.hosts[1]"]
    assert all("IDNA" in str(each) for each in found)


def test_one_host_may_be_parted_by_mount(load: Callable[[str], Loaded]) -> None:
    load(TOP + site("blog", 'hosts = ["x.org"]') + site("shop", 'hosts = ["x.org"]\nmount = "/shop"'))


def test_the_proxy_protocol_needs_an_address_of_ones_own(problems: Callable[[str], list[Problem]]) -> None:
    blog = site("blog", 'hosts = ["x.org"]\ntrusted_proxies = ["127.0.0.1"]\nproxy_protocol = true')
    (problem,) = problems(TOP + blog + site("shop"))
    assert problem.key == "sites.blog.proxy_protocol"


@pytest.mark.parametrize("mount", ["shop", "/shop/", "/", "/a b", "/sh%6fp"])
def test_a_mount_is_a_path_without_a_slash_at_its_end(
    problems: Callable[[str], list[Problem]], mount: str
) -> None:
    (problem,) = problems(TOP + site("blog", f'mount = "{mount}"'))
    assert problem.key == "sites.blog.mount"


def test_what_is_for_shared_addresses_alone_is_said_to_have_no_effect(load: Callable[[str], Loaded]) -> None:
    top = 'redirects = { "a.b" = "https://b" }\n'
    loaded = load(top + site("blog", 'listen = ["127.0.0.1:8001"]\ndefault = true'))
    keys = {each.key for each in loaded.warnings if "has no effect" in str(each)}
    assert keys == {"sites.blog.default", "redirects"}


def test_a_host_named_default_is_asked_about(load: Callable[[str], Loaded]) -> None:
    loaded = load(TOP + site("blog", 'hosts = ["default"]') + site("shop", 'hosts = ["x.org"]'))
    (warning,) = [each for each in loaded.warnings if "default = true" in str(each)]
    assert warning.key.startswith("sites.blog.hosts")
