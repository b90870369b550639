from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authority import Authority
from djsup.cli import cli

PROXIES = ("nginx", "apache", "caddy", "haproxy")
CONFIG = """
[sites.blog]
directory = "blog"
python = "{python}"
listen = ["127.0.0.1:8001"]
wsgi = "app:application"
hosts = [{hosts}]
{more}
"""


def run(folder: Path, *arguments: str, more: str = "", hosts: str = '"blog.example.com"') -> Result:
    (folder / "blog").mkdir(exist_ok=True)
    file = folder / "djsup.toml"
    file.write_text(CONFIG.format(python=sys.executable, more=more, hosts=hosts))
    return CliRunner().invoke(cli, ["proxy-config", *arguments, "-c", str(file)])


@pytest.mark.parametrize("proxy", PROXIES)
def test_what_the_client_says_of_itself_is_replaced(tmp_path: Path, proxy: str) -> None:
    text = run(tmp_path, proxy).stdout
    assert "proxy_add_x_forwarded_for" not in text
    assert "option forwardfor" not in text
    for name in ("Forwarded", "X-Forwarded-Host", "X-Real-IP"):
        assert name in text


def test_a_proxy_gives_up_idle_connections_before_djsup_does(tmp_path: Path) -> None:
    more = "limits.keepalive = 9"
    assert "keepalive_timeout 6s;" in run(tmp_path, "nginx", more=more).stdout
    assert "ttl=6 " in run(tmp_path, "apache", more=more).stdout
    assert "keepalive 6s" in run(tmp_path, "caddy", more=more).stdout
    assert "disablereuse=on" in run(tmp_path, "apache", more="limits.keepalive = 0").stdout


def test_missing_trust_is_told_beside_the_configuration(tmp_path: Path) -> None:
    result = run(tmp_path, "nginx")
    assert result.exit_code == 0
    assert 'site "blog": set trusted_proxies = ["127.0.0.1"]' in result.stderr
    assert run(tmp_path, "nginx", more='trusted_proxies = ["127.0.0.0/8"]').stderr == ""


SHARED = """
listen = ["0.0.0.0:8001"]
trusted_proxies = ["127.0.0.1"]

[sites.blog]
directory = "blog"
python = "{python}"
wsgi = "app:application"
hosts = ["example.com", "www.example.com"]
static = {{ "/static/" = "files" }}

[sites.shop]
directory = "blog"
python = "{python}"
wsgi = "app:application"
hosts = ["example.com", "shop.example"]
mount = "/shop"
health.path = "/healthz"
static = {{ "/static/" = "files" }}
limits.max_body = "7MiB"

[sites.news]
directory = "blog"
python = "{python}"
wsgi = "app:application"
hosts = ["www.example.com"]
mount = "/news"
limits.max_body = "300MiB"
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    for name in ("blog", "files"):
        (tmp_path / name).mkdir()
    file = tmp_path / "shared.toml"
    file.write_text(SHARED.format(python=sys.executable))
    return file


@pytest.mark.parametrize("proxy", PROXIES)
def test_sites_on_a_shared_address_are_reached_there(proxy: str, shared: Path) -> None:
    result = CliRunner().invoke(cli, ["proxy-config", proxy, "-c", str(shared), "--listen", "http://*:80"])
    assert result.exit_code == 0, result.output
    assert "127.0.0.1:8001" in result.stdout
    assert "CHANGE-ME" not in result.output
    assert "news" not in result.stdout.replace("/news", ""), "its only host is the blog's already"


def test_a_host_of_several_sites_is_in_one_block_with_the_files_and_limits_of_all(shared: Path) -> None:
    arguments = ["proxy-config", "nginx", "-c", str(shared), "--listen", "http://*:80"]
    text = CliRunner().invoke(cli, arguments).stdout
    blog, shop = (block for block in re.split(r"\n(?=server \{)", text) if "proxy_pass" in block)
    assert "server_name example.com www.example.com;" in blog
    assert "/shop/static/" in blog
    assert f"client_max_body_size {300 * 1024 * 1024};" in blog
    assert "server_name shop.example;" in shop
    assert "/shop/healthz answers 200" in shop
    assert f"client_max_body_size {7 * 1024 * 1024};" in shop


def test_each_certificate_has_the_names_that_djsup_shows_it_for(tmp_path: Path) -> None:
    authority = Authority()
    first = authority.issue(tmp_path, "blog.example.com", "both.example.com", file="first")
    second = authority.issue(tmp_path, "*.example.com", file="second")
    more = f"""
tls = {{ listen = ["127.0.0.1:8443"], certificate = "{first.certificate}", key = "{first.key}", certificates = [
    {{ certificate = "{second.certificate}", key = "{second.key}" }} ] }}
"""
    hosts = '"blog.example.com", "both.example.com", "shop.example.com", "elsewhere.test"'
    nginx = run(tmp_path, "nginx", more=more, hosts=hosts).stdout
    assert names_by_certificate(nginx, "server_name", "ssl_certificate ") == {
        str(first.certificate): "blog.example.com both.example.com elsewhere.test",
        str(second.certificate): "shop.example.com",
    }
    apache = run(tmp_path, "apache", more=more, hosts=hosts).stdout
    assert names_by_certificate(apache, "ServerAlias", "SSLCertificateFile ") == {
        str(first.certificate): "blog.example.com both.example.com elsewhere.test",
        str(second.certificate): "shop.example.com",
    }
    for proxy in ("caddy", "haproxy"):
        assert str(second.certificate) in run(tmp_path, proxy, more=more, hosts=hosts).stdout


def names_by_certificate(text: str, names: str, certificate: str) -> dict[str, str]:
    """What the blocks of a configuration that name a certificate say."""
    found = {}
    for block in re.split(r"\n(?=server \{|<VirtualHost)", text):
        files = [line for line in block.splitlines() if line.strip().startswith(certificate)]
        if files:
            (said,) = (line for line in block.splitlines() if line.strip().startswith(names))
            found[files[0].split('"')[1]] = said.strip().rstrip(";").partition(" ")[2]
    return found


def test_a_certificate_that_is_not_known_is_marked(tmp_path: Path) -> None:
    assert "CHANGE" in run(tmp_path, "nginx").stdout
    assert "CHANGE" not in run(tmp_path, "nginx", "--listen", "http://127.0.0.1:8080").stdout


@pytest.mark.parametrize("url", ["8080", "ftp://a:1", "http://a", "http://a:70000"])
def test_a_wrong_listen_is_refused(tmp_path: Path, url: str) -> None:
    result = run(tmp_path, "nginx", "--listen", url)
    assert result.exit_code == 2
    assert "expected http://HOST:PORT" in result.stderr


def test_an_unknown_site_is_refused(tmp_path: Path) -> None:
    assert 'no site "shop"; there are: blog' in run(tmp_path, "nginx", "shop").stderr
