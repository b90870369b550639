"""The stacks of this process, whenever the daemon asks: also while it imports the site, and while it is stuck in C.

A signal has faulthandler write them to a file that the daemon made for the site. That is set up once, before
anything of the site's runs, and workers that are forked have it from their template.
"""

import contextlib
import faulthandler
import signal

TRACE_SIGNAL = signal.SIGRTMIN + 4


def show_on_signal(fd: int) -> None:
    """Write the stacks of all threads to ``fd`` at each TRACE_SIGNAL.

    Without ``chain`` the signal is blocked while they are being written, which tells the daemon when they are
    whole (``djsup.shell.stacks``).
    """
    with contextlib.suppress(AttributeError, OSError, ValueError, RuntimeError):
        faulthandler.register(TRACE_SIGNAL, file=fd, all_threads=True, chain=False)
