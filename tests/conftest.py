"""What every process that runs tests needs."""

from __future__ import annotations

import signal

# A script's "make test &" ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
