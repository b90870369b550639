"""``python -m tools.make_reference``: writes the reference of settings and verbs from where they are defined.

With ``--check`` nothing is written; the exit status is 1 when a file is not what would be written.
Unlike the other tools it needs djsup, so it runs in .venv.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
from pydantic.fields import FieldInfo

from djsup.cli import VERBS, cli
from djsup.config.schema import (
    CanaryTable,
    CertificateTable,
    Configuration,
    DashboardTable,
    HealthTable,
    IsolationTable,
    LimitsTable,
    LogTable,
    ProgramTable,
    ReloadTable,
    ScalingTable,
    SiteLogTable,
    SiteTable,
    Table,
    TlsTable,
)
from djsup.core.difference import Cost, cost_of

REFERENCE = Path(__file__).resolve().parent.parent / "docs/reference"
HELP_WIDTH = 88
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # TOML 1.0: any other is quoted

TABLES: tuple[tuple[str, tuple[str, ...], type[Table]], ...] = (
    ("The top of the file", (), Configuration),
    ("`[dashboard]`", ("dashboard",), DashboardTable),
    ("`[log]`", ("log",), LogTable),
    ("`[sites.NAME]`", ("sites", "*"), SiteTable),
    ("`[sites.NAME.limits]`", ("sites", "*", "limits"), LimitsTable),
    ("`[sites.NAME.scaling]`", ("sites", "*", "scaling"), ScalingTable),
    ("`[sites.NAME.health]`", ("sites", "*", "health"), HealthTable),
    ("`[sites.NAME.reload]`", ("sites", "*", "reload"), ReloadTable),
    ("`[sites.NAME.reload.canary]`", ("sites", "*", "reload", "canary"), CanaryTable),
    ("`[sites.NAME.tls]`", ("sites", "*", "tls"), TlsTable),
    ("`[[sites.NAME.tls.certificates]]`", ("sites", "*", "tls", "certificates", "*"), CertificateTable),
    ("`[sites.NAME.isolation]`", ("sites", "*", "isolation"), IsolationTable),
    ("`[sites.NAME.log]`", ("sites", "*", "log"), SiteLogTable),
    ("`[sites.NAME.programs.PROGRAM]`", ("sites", "*", "programs", "*"), ProgramTable),
)

CONFIGURATION_HEAD = """\
# Configuration

This page is made from the schema by `make reference`; the same schema checks the file and is printed by
`djsup schema`, for editors that complete and check TOML.

The file is found as `-c FILE`, else `$DJSUP_CONFIG`, else `./djsup.toml`, else `/etc/djsup/djsup.toml`. An unknown
key is a mistake. All mistakes are reported at once, each with file, line, key, what was found and what is allowed.

* Relative paths are relative to the file that names them.
* `${NAME}` in a text is replaced by the environment variable; one that is not set is a mistake.
* A duration is a number of seconds or a text: `30`, `"30s"`, `"5m"`, `"1h"`.
* A size is a number of bytes or a text: `1048576`, `"1MiB"`, `"1MB"`.

A setting marked **not yet** is understood and checked, and gives a warning that it does nothing so far.
"""

COMMAND_LINE_HEAD = """\
# Command line

This page is made from the program's own help by `make reference`.

| exit status | means |
| --- | --- |
| 0 | done |
| 1 | it was tried and failed |
| 2 | wrong usage or configuration |
| 3 | the daemon is not running |
| 4 | it did not answer in time |

On a terminal the output is a table for people; piped, it is plain; with `--json` it is JSON. Colour is left out when
`NO_COLOR` is set.
"""


COSTS_HEAD = """\
# What a change costs

This page is made by `make reference` from the table by which the daemon decides (`core/plan.py`).

A changed file is read at SIGHUP and at `djsup reload`; `djsup reload --dry-run` shows beforehand what differs from what
runs, with these words. Both load the code of sites anew besides, whatever differs: SIGHUP and `djsup reload` that of
all, `djsup reload SITE` that of the sites named; of any other site only what is said here happens.

`listen` at the top of the file is what a router has for several sites. For a site that is alone with it, it is the
site's own, and costs what it costs there.

| costs | means |
| --- | --- |"""
COST_SENTENCES = {
    Cost.NOTHING: "nothing: it counts from then on",
    Cost.LATER: "nothing: it counts for the processes that are started from then on",
    Cost.TOLD: "the running processes are told; no process is replaced",
    Cost.WORKERS: "workers are added, or drained",
    Cost.GENERATION: "the code is loaded anew beside the old, and takes over: no request fails",
    Cost.LISTENER: "addresses are bound, or closed, and the others stay as they are; the code is loaded anew beside the old",
    Cost.PROGRAM: "programs are started, stopped or replaced, each by itself",
    Cost.DASHBOARD: "the dashboard is started anew",
    Cost.DAEMON: "it counts when the daemon is stopped and started again",
}


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    pages = {
        REFERENCE / "configuration.md": configuration(),
        REFERENCE / "command-line.md": command_line(),
        REFERENCE / "what-a-change-costs.md": costs(),
    }
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path} is not in step with the program; run: make reference\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages[path])
    return 0


def configuration() -> str:
    """The page about the configuration file."""
    parts = [CONFIGURATION_HEAD]
    for title, _path, table in TABLES:
        parts.append(f"## {title}\n\n{(table.__doc__ or '').strip()}\n")
        parts.extend(_setting(name, field) for name, field in table.model_fields.items())
    return "\n".join(parts)


def costs() -> str:
    """The page about what a change of each setting costs."""
    parts = [COSTS_HEAD]
    parts += [f"| {each.value} | {COST_SENTENCES[each]} |" for each in Cost]
    for title, path, table in TABLES:
        rows = [f"| `{name}` | {cost_of((*path, name)).value} |" for name in _leaves(path, table)]
        parts.append(f"\n## {title}\n\n| setting | costs |\n| --- | --- |\n" + "\n".join(rows))
    return "\n".join(parts) + "\n"


def _leaves(path: tuple[str, ...], table: type[Table]) -> Iterator[str]:
    """The settings of a table that are no tables themselves."""
    tables = {of for _, of, _ in TABLES}
    yield from (name for name in table.model_fields if not {(*path, name), (*path, name, "*")} & tables)


def _setting(name: str, field: FieldInfo) -> str:
    """One setting: what it does, what is allowed, its default and an example."""
    lines = [f"### `{name}`\n", f"{field.description}\n"]
    allowed = list(dict.fromkeys(_allowed(field)))
    if allowed:
        lines.append(f"* Allowed: {'; '.join(allowed)}")
    if field.is_required():
        lines.append("* Required")
    elif (default := _default(field)) is not None:
        lines.append(f"* Default: `{default}`")
    if field.examples:
        written = "`, `".join(f"{name} = {toml(example)}" for example in field.examples)
        lines.append(f"* Example: `{written}`")
    return "\n".join(lines) + "\n"


def _allowed(thing: Any) -> Iterator[str]:
    """What the forms in a field or an annotation call allowed."""
    if isinstance(thing, FieldInfo):
        yield from _allowed_of(thing.metadata)
        thing = thing.annotation
    for inner in get_args(thing):
        yield from _allowed_of(getattr(inner, "__metadata__", ()))
        yield from _allowed(inner)


def _allowed_of(metadata: Any) -> Iterator[str]:
    for each in metadata:
        allowed = getattr(each, "allowed", None)
        if isinstance(allowed, str):
            yield allowed


def _default(field: FieldInfo) -> str | None:
    """The default as one would write it; None when the description says it, or there is none."""
    extra = field.json_schema_extra
    value = extra["default"] if isinstance(extra, dict) and "default" in extra else field.default
    if value is None or isinstance(value, Table) or value in ([], {}):
        return None
    return toml(value)


def toml(value: Any) -> str:
    """A value as TOML writes it on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case float() if value == int(value):
            return str(int(value))
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{ " + ", ".join(f"{_key(key)} = {toml(each)}" for key, each in value.items()) + " }"
        case _:
            return str(value)


def _key(key: str) -> str:
    return key if BARE_KEY.fullmatch(key) else f'"{key}"'


def command_line() -> str:
    """The page about the verbs."""
    parts = [COMMAND_LINE_HEAD, _help(cli, "djsup")]
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None, verb
        parts.append(f"## `djsup {verb}`\n\n{_help(command, f'djsup {verb}')}")
    return "\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    """What ``--help`` prints, at a width that does not depend on the terminal."""
    context = click.Context(
        command, info_name=name, terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH,
        help_option_names=["-h", "--help"],
    )  # fmt: skip
    return f"```text\n{command.get_help(context).strip()}\n```\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
