"""The story of a process that the daemon runs in a site's interpreter: a template, or a worker.

    PYTHON -u RUNTIME/worker SITE GENERATION CHANNEL_FD

It reads its Boot message, prepares the interpreter, loads the application, and tells how that went.
A template then forks workers; a worker that was asked for goes on to serve. What the daemon needs to
know travels as messages over the channel; what people need to know, on standard error.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING

from djsup_worker import application, boot, forksafety, rests, stacks
from djsup_worker.boot import SiteError
from djsup_worker.ending import end
from djsup_worker.messages import Boot, Loaded, LoadFailed, receive, send, shorten

if TYPE_CHECKING:
    from djsup_worker.template import Birth

LOAD_FAILED = 3
"""Exit status of a process that could not load its application."""
WRONG_USE = 2
BOOT_FDS = 6
"""The scoreboard, both ends of the handover socket, the file for stacks, the ends of standard output and error;
the listeners follow."""


def main() -> None:
    """Be what the daemon says; exits."""
    sys.exit(_run(sys.argv))


def _run(argv: list[str]) -> int:
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda _number, _frame: end(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if len(argv) != 4 or not argv[3].isdigit():  # noqa: PLR2004  # as in the module's first lines
        sys.stderr.write("this program is run by djsup: PYTHON -u FOLDER SITE GENERATION CHANNEL_FD\n")
        return WRONG_USE
    channel = socket.socket(fileno=int(argv[3]))
    channel.set_inheritable(False)
    found = receive(channel)
    if found is None or not isinstance(found[0], Boot):
        return WRONG_USE
    told, fds = found
    for fd in fds:
        os.set_inheritable(fd, False)
    assert isinstance(told, Boot)
    name_process(told.site, told.slot)

    folder = (
        os.path.dirname(os.path.abspath(argv[0])) if os.path.isfile(argv[0]) else os.path.abspath(argv[0])
    )
    boot.forget_worker_folder(folder)
    try:
        if len(fds) != BOOT_FDS + len(told.listeners):
            raise SiteError(
                "the daemon sent %d descriptors for %d listeners" % (len(fds), len(told.listeners))
            )
        stacks.show_on_signal(fds[3])
        with boot.httptools_at_hand(folder):
            # All that this process will ever need of its own is imported here, before the site's code:
            # nothing that the site does to its import path can get in between.
            from djsup_worker import template, worker  # noqa: PLC0415

            if told.tls_listeners:
                boot.import_tls()
        if told.static:
            with boot.whitenoise_at_hand(folder):
                from djsup_worker import static  # noqa: PLC0415
        boot.enter_directory(told.directory)
        loaded = application.load(told.directory, told.wsgi, told.settings)
        serve = loaded.application
        if told.static:
            serve = static.in_front_of(serve, told.site, told.static)
        application.close_connections()
    except BaseException as error:  # noqa: BLE001  # a site's import may raise anything, SystemExit too
        return _load_failed(channel, error)
    finally:
        rests.own.end_imports()

    descriptors = worker.Descriptors(
        scoreboard=fds[0], intake=fds[1], outlet=fds[2], stacks=fds[3], listeners=list(fds[BOOT_FDS:])
    )
    rests.own.look()
    gc.collect()
    gc.freeze()
    rests.own.look()
    unsafe = forksafety.hazards({channel.fileno(), *fds}) if told.role == "template" else []
    send(
        channel,
        Loaded(
            python=forksafety.interpreter(),
            django=loaded.django,
            wsgi=loaded.wsgi,
            settings=loaded.settings,
            boot_s=time.monotonic() - begun,
            unsafe=[shorten(each)[:1000] for each in unsafe][:20],
        ),
    )

    def work(birth: Birth) -> int:
        name_process(told.site, birth.slot)
        one = worker.Worker(told, descriptors, birth.slot, birth.channel, serve)
        for message, its_fds in birth.told:
            one.heard(message, its_fds)
        return one.run()

    if told.role == "worker":
        return work(template.Birth(told.slot, channel, []))
    holdings = [*fds[:4], *fds[BOOT_FDS:]]
    return template.Template(told, channel, holdings, work).run()


def _load_failed(channel: socket.socket, error: BaseException) -> int:
    """Tell the daemon and standard error why the application is not there."""
    line, has_more = application.origin(error)
    trace = ""
    if has_more:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write((trace or line).rstrip("\n") + "\n")
    with channel, contextlib.suppress(OSError):
        send(channel, LoadFailed(error=shorten(line), traceback=shorten(trace)))
    return LOAD_FAILED


def name_process(site: str, slot: int) -> None:
    """Show site and slot in top and ps (at most 15 bytes, prctl(2) PR_SET_NAME); a template has slot -1."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w", encoding="utf-8") as file:
        file.write("djsup %s %s" % (site[:6], slot if slot >= 0 else "tpl"))


if __name__ == "__main__":
    main()
