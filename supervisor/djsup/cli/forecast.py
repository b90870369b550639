"""What a reload would do, as a table for people."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from djsup.cli import output

CODE = {"added": "added: its code is loaded", "removed": "removed: it is drained and ends"}


def show(forecast: dict[str, Any]) -> None:
    """Print a forecast, as ``core/difference.py`` makes it."""
    console = output.console()
    rows = [("", each) for each in forecast["daemon"]]
    for site in forecast["sites"]:
        stays = "its code is loaded anew, beside the old" if site["loads_code"] else "its code stays"
        line = CODE.get(site["does"], stays)
        if site["restarts"]:
            line += f"; then its programs follow: {', '.join(site['restarts'])}"
        console.print(Text.assemble((f"{site['name']}: ", "bold"), line), soft_wrap=True)
        rows += [(site["name"], each) for each in site["differences"]]
    if not rows:
        click.echo("no setting differs from what runs")
        return
    cells = [("SITE", "SETTING", "FROM", "TO", "COSTS")]
    cells += [
        (site or "(daemon)", each["setting"], each["before"], each["after"], each["cost"])
        for site, each in rows
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    for number, row in enumerate(cells):
        line = "  ".join(output.clean(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(Text(line.rstrip(), "bold" if number == 0 else ""), soft_wrap=True)
