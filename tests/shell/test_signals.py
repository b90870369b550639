"""Signals to a daemon, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize("moment", ["before the loop closes", "while it closes", "after it has closed"])
def test_a_daemon_that_has_stopped_is_not_killed_by_one_signal_more(moment: str) -> None:
    code = """
        import asyncio, os, signal, sys
        from djsup.shell import signals

        heard = []

        def send(when):
            if when == sys.argv[1]:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                    os.kill(os.getpid(), number)

        class Loop(asyncio.SelectorEventLoop):
            def _close_self_pipe(self):
                super()._close_self_pipe()
                send("while it closes")

        async def daemon():
            signals.listen(heard.append)
            os.kill(os.getpid(), signal.SIGTERM)
            while not heard:
                await asyncio.sleep(0.01)
            signals.stop()
            send("before the loop closes")
            await asyncio.sleep(0.01)

        loop = Loop()
        loop.run_until_complete(daemon())
        loop.close()
        send("after it has closed")
        print(*(each.name for each in heard))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), moment], capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "SIGTERM\n", "")
