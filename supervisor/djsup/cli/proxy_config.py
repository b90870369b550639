"""``djsup proxy-config``: what nginx, Apache, Caddy or HAProxy needs to stand in front of the sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from djsup.cli import output
from djsup.cli.verb import USAGE, Failed, Target, Verb
from djsup.core.model import Address, AddressKind, SiteName
from djsup.front import apache, caddy, haproxy, nginx
from djsup.front.origin import Front, advice, by_host, origin

if TYPE_CHECKING:
    from djsup.core.model import Settings, SiteSettings

WRITERS = {"nginx": nginx.text, "apache": apache.text, "caddy": caddy.text, "haproxy": haproxy.text}
PORT_MAX = 65535


@click.command(
    "proxy-config",
    cls=Verb,
    examples=(
        "djsup proxy-config nginx > /etc/nginx/conf.d/djsup.conf",
        "djsup proxy-config haproxy blog --listen http://127.0.0.1:8080",
    ),
)
@click.argument("proxy", type=click.Choice(list(WRITERS)))
@click.argument("sites", nargs=-1, metavar="[SITE]...")
@click.option(
    "--listen",
    "listens",
    multiple=True,
    metavar="URL",
    help="Where the proxy listens, as http://127.0.0.1:8080 or https://*:8443; given twice, http is sent on to https. "
    "Default: http://*:80 and https://*:443.",
)
@click.pass_obj
def command(target: Target, proxy: str, sites: tuple[str, ...], listens: tuple[str, ...]) -> None:
    """A proxy's configuration for the sites."""
    settings = target.load().settings
    chosen = [_site(settings, name) for name in sites] or list(settings.sites)
    if not chosen:
        raise Failed("the configuration has no site", USAGE)
    front = _front(listens) if listens else Front()
    origins = [origin(site, _shown(site)) for site in chosen]
    said = {site.name: advice(site, found) for site, found in zip(chosen, origins, strict=True)}
    for name, lines in said.items():
        for line in lines:
            click.echo(f'site "{name}": {line}', err=True)
    text = WRITERS[proxy](by_host(origins), front)
    if target.as_json:
        output.as_json({"proxy": proxy, "text": text, "advice": said})
    else:
        click.echo(text, nl=False)


def _site(settings: Settings, name: str) -> SiteSettings:
    site = settings.site(SiteName(name))
    if site is None:
        raise Failed(f'no site "{name}"; there are: {", ".join(each.name for each in settings.sites)}', USAGE)
    return site


def _shown(site: SiteSettings) -> list[tuple[str, ...]]:
    """For each certificate the names that it is shown for: the first that is for a name has it, as in djsup.

    Raises:
        Failed: a certificate is of no use.
    """
    if site.tls is None or len(site.tls.certificates) == 1:
        return []
    from djsup.config import certificates  # noqa: PLC0415 -- cryptography takes a tenth of a second

    try:
        named = [certificates.read(files).names for files in site.tls.certificates]
    except certificates.BadPair as error:
        raise Failed(f'site "{site.name}": {error}') from error
    hosts = site.hosts or tuple(dict.fromkeys(name for names in named for name in names))
    firsts = [
        next((at for at, names in enumerate(named) if certificates.covers(names, host)), 0) for host in hosts
    ]
    return [
        tuple(host for host, first in zip(hosts, firsts, strict=True) if first == at)
        for at in range(len(named))
    ]


def _front(urls: tuple[str, ...]) -> Front:
    """Where the proxy listens, as it was said.

    Raises:
        Failed: that is no address, or one too many.
    """
    found: dict[str, Address] = {}
    for url in urls:
        scheme, _, where = url.partition("://")
        host, _, port = where.rstrip("/").rpartition(":")
        right = scheme in ("http", "https") and host and port.isdecimal() and 0 < int(port) <= PORT_MAX
        if not right or scheme in found:
            raise Failed(
                f'--listen {url}: expected http://HOST:PORT or https://HOST:PORT, one of each at most; HOST may be "*"',
                USAGE,
            )
        found[scheme] = Address(AddressKind.TCP, host.strip("[]"), int(port))
    return Front(found.get("http"), found.get("https"))
