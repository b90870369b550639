"""The story of the dashboard's process: ``python -m djsup_web``, started and supervised by the daemon.

Reads the environment and its files, gives up the daemon's user, ties its life to the daemon's,
adopts the listening socket, serves until SIGTERM. It has the control socket and the token's hash, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys

from aiohttp import web

from djsup_web import app, environment, hosts, parent, privileges
from djsup_web.auth import Tokens
from djsup_web.rotation import rotate
from djsup_web.static_files import StaticFiles
from djsup_web.upstream import Upstream

FAILED, WRONG_USE, GONE = 1, 2, 3
"""Exit statuses, as of the command line."""
FINISH_S = 0.3
"""How long answers under way may take after SIGTERM."""
BACKLOG = 128


async def serve(settings: environment.Environment, listener: socket.socket, static: StaticFiles) -> None:
    """Serve until SIGTERM or SIGINT."""
    upstream = Upstream(settings.control.name, str(settings.control.parent))
    tokens = Tokens(settings.tokens_sha256, settings.read_tokens_sha256)
    application = app.build(
        upstream,
        static,
        hosts.rule_for(listener, settings.listen, settings.hosts),
        tokens,
        metrics_public=settings.metrics_public,
        prefix=settings.prefix,
        proxies=settings.proxies,
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=FINISH_S, handle_signals=False)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    told_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_end.set)
    rotation = asyncio.create_task(rotate(upstream, tokens))
    await told_to_end.wait()
    rotation.cancel()
    await runner.cleanup()


def main() -> int:
    """Run the dashboard; gives the exit status."""
    started_by = os.getppid()
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        settings = environment.read(os.environ)
        static = StaticFiles()
        # The control socket is reached by its name from its folder, for a folder above it may be closed to
        # the user that we become (a checkout in root's home).
        os.chdir(settings.control.parent)
        privileges.give_up(settings.uid, settings.gid)
        # After the change of user: that clears the setting (prctl(2)).
        parent.die_with_parent(settings.daemon_pid or started_by)
        listener = socket.socket(fileno=settings.listen_fd)
    except environment.BadEnvironment as error:
        return _refuse(str(error), WRONG_USE)
    except parent.ParentGone as error:
        return _refuse(str(error), GONE)
    except OSError as error:
        return _refuse(f"cannot start: {error}", FAILED)
    listener.setblocking(False)
    asyncio.run(serve(settings, listener, static))
    return 0


def _refuse(text: str, status: int) -> int:
    print(f"djsup_web: {text}", file=sys.stderr)  # noqa: T201 - the daemon captures and labels it
    return status


if __name__ == "__main__":
    sys.exit(main())
