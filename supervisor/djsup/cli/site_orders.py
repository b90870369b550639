"""``djsup stop SITE`` and ``djsup start SITE``: single sites, while the daemon and all others run on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from djsup.cli import output
from djsup.cli.progress import follow
from djsup.cli.verb import DONE, FAILED

if TYPE_CHECKING:
    from djsup.cli.verb import Target

WAIT_S = 600.0
NOT_SERVING = ("failed", "backing-off", "stopped")


def stop(target: Target, sites: tuple[str, ...], wait_s: float | None, *, now: bool, wait: bool) -> int:
    """Stop these sites. Gives the exit status."""
    patience_s = WAIT_S if wait_s is None else wait_s
    lines = target.client().stream("stop_sites", patience_s, sites=list(sites), now=now, wait=wait)
    return _show(target, follow(target, lines), starts=False)


def start(target: Target, sites: tuple[str, ...], wait_s: float | None, *, wait: bool) -> int:
    """Start these sites, which were stopped. Gives the exit status: 1 where one does not serve now."""
    patience_s = WAIT_S if wait_s is None else wait_s
    lines = target.client().stream("start_sites", patience_s, sites=list(sites), wait=wait)
    return _show(target, follow(target, lines), starts=True)


def _show(target: Target, result: dict[str, Any], *, starts: bool) -> int:
    """Print what has become of each site."""
    sites: list[dict[str, Any]] = result["sites"]
    bad = [each for each in sites if each["error"] or (starts and each["state"] in NOT_SERVING)]
    if target.as_json:
        output.as_json(result)
        return FAILED if bad else DONE
    for each in sites:
        wrong = each in bad
        line = Text.assemble((f"{each['name']}: ", "bold"), (each["state"], "bold red" if wrong else ""))
        if not each["changed"]:
            line.append(", and was not stopped before" if starts else ", and was so before")
        if each["error"]:
            line.append(f": {output.clean(each['error'])}")
        elif wrong:
            line.append(f"; djsup events {each['name']} tells why")
        output.console(stderr=wrong).print(line, soft_wrap=True)
    return FAILED if bad else DONE
