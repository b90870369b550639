"""``djsup top``: all sites, live; the workers of one with what each thread runs; keys for what one does about it.

One thread reads pictures from the daemon, one at a time does what was asked for, this one reads keys and
draws. They meet in one queue.
"""

from __future__ import annotations

import queue
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click
from rich.live import Live

from djsup.cli import keyboard, output
from djsup.cli.keyboard import Keyboard
from djsup.cli.screen import BY_NAME, SORTS, Screen
from djsup.cli.verb import Target, Verb
from djsup.client import ClientError
from djsup.core.snapshot import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from djsup.client import Client
    from djsup.core.snapshot import SiteSnapshot

INTERVAL_S = 1.0
KEY_S = 0.1
"""How long a key is waited for before the queue is looked at again."""
AWAY_S = 1.0
"""How long to wait before a daemon that is away is asked again."""
ACTION_S = 600.0
ROLLED_BACK = "rolled-back"


@click.command("top", cls=Verb, examples=("djsup top", "djsup top blog", "djsup top --sort m"))
@click.argument("site", required=False)
@click.option(
    "--sort",
    type=click.Choice([BY_NAME, *SORTS]),
    default=BY_NAME,
    help="n name, " + ", ".join(f"{key} {name}" for key, (name, _) in SORTS.items()) + ".",
)
@click.pass_obj
def command(target: Target, site: str | None, sort: str) -> None:
    """All sites live, and what each thread runs.

    Enter shows the workers of a site, R reloads it, S restarts it, T stops it or starts it again, + and - scale it,
    q quits. Without a terminal the picture is printed once.
    """
    client = target.client()
    if target.as_json:
        output.as_json(client.call("status", site=site))
        return
    console = output.console()
    if site is not None:
        client.call("status", site=site)  # refuses a name that there is not
    screen = Screen(sort=sort, opened=site).with_picture(from_json(client.call("status")))
    if sys.stdin.isatty() and console.is_terminal:
        Top(client, screen).run()
    else:
        output.show(console, screen.show(console))


@dataclass(frozen=True, slots=True)
class Action:
    """Something that an operator may have done to a site."""

    question: str
    do: Callable[[], str]
    """Does it; gives what to say of it.

    Raises:
        ClientError: it could not be done.
    """


class Top:
    """The live view on one terminal."""

    def __init__(self, client: Client, screen: Screen) -> None:
        self._client = client
        self._screen = screen
        self._news: queue.SimpleQueue[Callable[[Screen], Screen]] = queue.SimpleQueue()
        self._asked: Action | None = None
        self._acts = threading.Lock()

    def run(self) -> None:
        """Show and obey until told to quit."""
        threading.Thread(target=self._watch, name="pictures", daemon=True).start()
        console = output.console()
        try:
            self._live(console)
        finally:
            if console.is_alt_screen:  # Ctrl-C came while the view was being set up
                console.set_alt_screen(enable=False)
                console.show_cursor()

    def _live(self, console: Console) -> None:
        with (
            Keyboard(sys.stdin.fileno()) as keys,
            Live(self._screen.show(console), console=console, screen=True, auto_refresh=False) as live,
        ):
            size = console.size
            while (key := keys.key(KEY_S)) not in ("q", keyboard.GONE):
                before = self._screen
                if key is not None:
                    self._pressed(key)
                while not self._news.empty():
                    self._screen = self._news.get()(self._screen)
                if self._screen is not before or console.size != size:
                    size = console.size
                    live.update(self._screen.show(console), refresh=True)

    def _pressed(self, key: str) -> None:
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._screen = replace(self._screen, asks="")
            if key == "y":
                self._act(asked)
            return
        screen = replace(self._screen, said="", failed=False)
        match key:
            case keyboard.UP | "k":
                screen = screen.moved(-1)
            case keyboard.DOWN | "j":
                screen = screen.moved(1)
            case keyboard.ENTER | keyboard.RIGHT if screen.site is not None:
                screen = replace(screen, opened=screen.site.name)
            case keyboard.ESCAPE | keyboard.LEFT:
                screen = replace(screen, opened=None)
            case "T" if screen.site is not None:
                self._asked = self._stop_or_start(screen.site)
                screen = replace(screen, asks=self._asked.question)
            case "R" | "S" | "+" | "-" if screen.site is not None:
                self._asked = self._action(key, screen.site.name)
                screen = replace(screen, asks=self._asked.question)
            case _ if key == BY_NAME or key in SORTS:
                screen = replace(screen, sort=key)
        self._screen = screen

    # --- the daemon ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Bring picture after picture, and go on when the daemon was away."""
        pause = threading.Event()
        while True:
            try:
                for line in self._client.stream("watch", interval_s=INTERVAL_S):
                    if line.kind == "snapshot":
                        self._bring(line.value)
            except (ClientError, KeyError, TypeError, ValueError) as error:
                self._lost(output.clean(str(error)))
            pause.wait(AWAY_S)

    def _bring(self, picture: dict[str, Any]) -> None:
        snapshot = from_json(picture)
        self._news.put(lambda screen: screen.with_picture(snapshot))

    def _lost(self, why: str) -> None:
        self._news.put(lambda screen: replace(screen, away=why))

    def _act(self, action: Action) -> None:
        """Do it beside the pictures, which go on; a second one waits its turn."""

        def do() -> None:
            with self._acts:
                try:
                    said, failed = action.do(), False
                except ClientError as error:
                    said, failed = str(error), True
            self._news.put(lambda screen: replace(screen, said=output.clean(said), failed=failed))

        self._screen = replace(self._screen, said=f"{action.question.rstrip('?')} ...")
        threading.Thread(target=do, name="action", daemon=True).start()

    def _action(self, key: str, site: str) -> Action:
        match key:
            case "R":
                return Action(f"reload {site}?", lambda: self._reload(site))
            case "S":
                return Action(f"restart {site}? It does not serve in between", lambda: self._restart(site))
            case _:
                return Action(
                    f"{'one worker more' if key == '+' else 'one worker fewer'} for {site}?",
                    lambda: self._scale(site, f"{key}1"),
                )

    def _stop_or_start(self, site: SiteSnapshot) -> Action:
        name = site.name
        if site.stopped_by is not None:
            return Action(f"start {name}?", lambda: self._order("start_sites", name))
        question = f"stop {name}? It refuses connections until somebody starts it"
        return Action(question, lambda: self._order("stop_sites", name))

    def _order(self, verb: str, site: str) -> str:
        (result,) = self._client.call(verb, ACTION_S, sites=[site], wait=True)["sites"]
        if result["error"]:
            raise ClientError(f"{site}: {result['state']}: {result['error']}")
        return f"{site}: {result['state']}"

    def _reload(self, site: str) -> str:
        (result,) = self._client.call("reload", ACTION_S, sites=[site], wait=True)["sites"]
        if result["result"] == ROLLED_BACK:
            raise ClientError(f"{site}: rolled back: {result['error']}")
        return f"{site}: {result['result']}, generation {result['generation']}"

    def _restart(self, site: str) -> str:
        result = self._client.call("restart", ACTION_S, site=site, wait=True)
        return f"{site}: {result['state']}"

    def _scale(self, site: str, workers: str) -> str:
        return f"{site}: {self._client.call('scale', site=site, workers=workers)['workers']} workers"
