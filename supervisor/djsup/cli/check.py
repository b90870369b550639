"""``djsup check``: the configuration, every site's interpreter and imports, every address."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.text import Text

from djsup import check, client
from djsup.cli import figures, output
from djsup.cli.verb import DONE, FAILED, Failed, Target, Verb

if TYPE_CHECKING:
    from rich.console import Console

    from djsup.config import Loaded


@click.command("check", cls=Verb, examples=("djsup check", "djsup check -c /etc/djsup/djsup.toml --json"))
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check configuration, imports and addresses.

    Every site is loaded once by its own interpreter; nothing is started and nothing stays.
    """
    target = ctx.ensure_object(Target)
    loaded = target.load()
    console = output.console()
    if not target.as_json:
        for warning in loaded.warnings:
            output.console(stderr=True).print(
                Text(output.clean(str(warning)), style="yellow"), soft_wrap=True
            )
    addresses = list(check.check_addresses(loaded.settings, _held(target, loaded)))
    try:
        sites = _sites(target, console, loaded)
    except OSError as error:
        raise Failed(f"cannot lay out the worker's folder: {error}") from error
    failed = any(each.error for each in sites) or any(each.error for each in addresses)
    if target.as_json:
        output.as_json(
            {
                "ok": not failed,
                "file": loaded.settings.file,
                "warnings": [warning.to_json() for warning in loaded.warnings],
                "sites": [asdict(each) for each in sites],
                "addresses": [asdict(each) for each in addresses],
            }
        )
    else:
        show(console, loaded.settings.file, sites, addresses)
    ctx.exit(FAILED if failed else DONE)


def _held(target: Target, loaded: Loaded) -> tuple[str, ...]:
    """The addresses that a running daemon of this configuration listens on."""
    runtime_dir = target.runtime_dir() if target.runtime is not None else loaded.settings.runtime_dir
    try:
        picture = client.Client(runtime_dir).call("status", timeout_s=5.0)
    except client.ClientError:
        return ()
    held = [address for site in picture["sites"] for address in site["listen"]]
    dashboard = picture["daemon"].get("dashboard") or ""
    return (*held, dashboard.removeprefix("http://").rstrip("/"))


def _sites(target: Target, console: Console, loaded: Loaded) -> list[check.SiteCheck]:
    found = []
    text = "loading the sites: {} of {}"
    all_of_them = len(loaded.settings.sites)
    waiting = None
    if console.is_terminal and not target.as_json:
        waiting = console.status(text.format(0, all_of_them))
    if waiting is not None:
        waiting.start()
    try:
        for each in check.check_sites(loaded.settings):
            found.append(each)
            if waiting is not None:
                waiting.update(text.format(len(found), all_of_them))
    finally:
        if waiting is not None:
            waiting.stop()
    return found


def show(
    console: Console, file: str, sites: list[check.SiteCheck], addresses: list[check.AddressCheck]
) -> None:
    """A line a site, then whatever failed with its reason."""
    by_site: dict[str, list[check.AddressCheck]] = {}
    for address in addresses:
        by_site.setdefault(address.owner, []).append(address)
    table = output.table(
        console, "SITE", "LOADS", "PYTHON", "DJANGO", "APPLICATION", "SETTINGS", "LISTENS ON"
    )
    for site in sites:
        table.add_row(
            Text(site.site, style="bold"),
            Text("failed", style="bold red")
            if site.error
            else Text(figures.duration(site.boot_s), style="green"),
            site.python or figures.NONE,
            site.django or figures.NONE,
            site.wsgi or figures.NONE,
            site.settings or figures.NONE,
            _addresses(by_site.pop(site.site, [])),
        )
    for owner, owned in by_site.items():
        table.add_row(Text(owner, style="bold"), *[""] * 5, _addresses(owned))
    output.show(console, table)
    errors = output.console(stderr=True)
    for site in sites:
        for sentence in site.unsafe:
            line = f"is not safe to fork: {output.clean(sentence)}"
            output.show(console, Text.assemble((f"{site.site}: ", "bold"), (line, "yellow")))
        if site.error:
            reason = Text.assemble((f"{site.site}: ", "bold"), (output.clean(site.error), "red"))
            errors.print(reason, soft_wrap=True)
            if site.details:
                errors.print(output.indented(site.details, "dim"), soft_wrap=True)
    for address in addresses:
        if address.error:
            reason = Text.assemble((f"{address.owner}: ", "bold"), (address.error, "red"))
            errors.print(reason, soft_wrap=True)
    failures = sum(bool(each.error) for each in sites) + sum(bool(each.error) for each in addresses)
    if failures:
        errors.print(
            Text(f"{file}: {figures.counted(failures, 'thing')} failed", style="bold red"), soft_wrap=True
        )
    else:
        output.show(console, Text(f"{file}: all is well", style="green"))


def _addresses(addresses: list[check.AddressCheck]) -> Text:
    text = Text()
    for number, each in enumerate(addresses):
        text.append("\n" if number else "")
        text.append(each.address, style="red" if each.error else "")
        text.append(" (running)" if each.held else " (taken)" if each.error else "", style="dim")
    return text
