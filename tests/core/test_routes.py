"""Whose a request is: by host, then by the beginning of its path."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.playbook import BLOG, settings
from djsup.core.model import SiteName
from djsup.core.routes import ANY, Routing, SiteRoute, Table, bare, normal, routing_of


def route(name: str, *hosts: str, mount: str = "", default: bool = False) -> SiteRoute:
    return SiteRoute(SiteName(name), hosts, mount, default=default)


SITES = (
    route("blog", "example.com", "www.example.com"),
    route("shop", "example.com", mount="/shop"),
    route("sale", "example.com", mount="/shop/sale"),
    route("wild", "*.example.com"),
    route("deep", "*.a.example.com"),
    route("unicode", "xn--bcher-kva.example"),
    route("rest", "rest.example", default=True),
    route("help", mount="/help"),
)


@pytest.mark.parametrize(
    ("host", "path", "site"),
    [
        ("example.com", "/", "blog"),
        ("EXAMPLE.com:8000", "/", "blog"),
        ("example.com.", "/", "blog"),
        ("example.com.:80", "/shopping", "blog"),
        ("example.com", "/shop", "shop"),
        ("example.com", "/shop/", "shop"),
        ("example.com", "/shop/sale/1", "sale"),
        ("example.com", "/shop/salexx", "shop"),
        ("www.example.com", "/shop", "blog"),
        ("x.example.com", "/shop", "wild"),
        ("x.y.example.com", "/", "wild"),
        ("x.a.example.com", "/", "deep"),
        ("a.example.com", "/", "wild"),
        ("notexample.com", "/", "rest"),
        ("xn--bcher-kva.example", "/", "unicode"),
        ("rest.example", "/", "rest"),
        ("nobody.example", "/help/me", "help"),
        ("[::1]:8000", "/", "rest"),
        ("", "/", "rest"),
        ("", "/help", "help"),
        (".", "/", "rest"),
    ],
)
def test_the_host_decides_then_the_longest_mount(host: str, path: str, site: str) -> None:
    assert Table(SITES).find(host.encode(), path.encode()) == site


def test_without_a_default_site_an_unknown_host_is_nobodys() -> None:
    table = Table(SITES[:6])
    assert table.find(b"nobody.example", b"/") is None
    assert table.find(b"", b"/") is None
    assert table.find(b"*.example.com.evil", b"/") is None


def test_hosts_are_compared_in_ascii() -> None:
    assert normal("Bücher.Example.") == "xn--bcher-kva.example"
    assert normal("*.Bücher.Example") == "*.xn--bcher-kva.example"
    assert normal("[2001:DB8::1]:8000") == "[2001:db8::1]"


def test_what_a_client_sends_is_compared_as_it_is() -> None:
    """The router can import nothing, and what is not ASCII is no host's name (RFC 9110, 4.2.3)."""
    assert bare("Bücher.Example.:80") == "bücher.example"
    for host in ("bücher.example".encode(), "bücher.example".encode("latin-1"), b"\xff"):
        assert Table(SITES).find(host, b"/") == "rest"
        assert Table(SITES[:6]).find(host, b"/") is None


def test_the_router_is_told_of_hosts_in_ascii() -> None:
    blog = replace(BLOG, hosts=("Bücher.example",), listen=(), shared=BLOG.listen)
    redirects = (("Öl.example", "https://example.com"),)
    routing = routing_of(replace(settings(blog), shared=blog.shared, redirects=redirects))
    assert routing.sites[0].hosts == ("xn--bcher-kva.example",)
    assert routing.redirects == (("xn--l-0ga.example", "https://example.com"),)


def test_a_routing_survives_the_channel() -> None:
    routing = Routing(SITES, (("www.example.com", "https://example.com"),), "/var/lib/acme")
    assert Routing.from_json(routing.to_json()) == routing


labels = st.sampled_from(["a", "b", "c"])
hosts = st.lists(labels, min_size=1, max_size=3).map(".".join)
mounts = st.lists(labels, max_size=2).map(lambda parts: "".join(f"/{part}" for part in parts))
sites = st.lists(
    st.tuples(st.lists(hosts | hosts.map("*.{}".format), max_size=2, unique=True), mounts, st.booleans()),
    max_size=6,
).map(
    lambda found: [
        SiteRoute(SiteName(f"site{index}"), tuple(names), mount, default=default)
        for index, (names, mount, default) in enumerate(found)
    ]
)


def fits(pattern: str, host: str) -> bool:
    return pattern in (ANY, host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


@given(sites, hosts, st.lists(labels, max_size=3))
def test_a_request_reaches_only_a_site_that_it_names_and_the_one_that_fits_best(
    routes: list[SiteRoute], host: str, parts: list[str]
) -> None:
    taken: dict[tuple[str, str], SiteName] = {}
    routes = [
        each for each in routes if all(taken.setdefault(key, each.site) == each.site for key in each.claims())
    ]
    path = "/" + "/".join(parts)
    found = Table(routes).find(f"{host}:8000".encode(), path.encode())
    fitting = [
        (len(pattern) + 1000 * (pattern == host), len(mount), each.site)
        for each in routes
        for pattern, mount in each.claims()
        if fits(pattern, host) and (not mount or path == mount or path.startswith(mount + "/"))
    ]
    assert found == (max(fitting)[2] if fitting else None)


def test_hosts_that_clients_invent_do_not_fill_the_memory() -> None:
    table = Table(SITES)
    for number in range(3000):
        table.find(f"{number}.example.com".encode(), b"/")
    assert len(table._known) <= 1024
    assert all(first != second for first, second in pairwise(table._known))
