"""``make fuzz``: atheris, guided by coverage, against the worker's loop and connections in this process.

An input is one byte of flags and all that one client sends. A finding is an exception, a reading that depends
on how the bytes arrive, another framing than h11's, a descriptor or a connection that is left, or a hang. It is
written to .cache/fuzz/; once mended it moves to ``seeds/``, which the tests replay.

    FUZZ_SECONDS=600 make fuzz          how long; default 60
    make fuzz arguments=keep            adds to seeds/ what has been found to reach new code
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with atheris.instrument_imports(include=["djsup_worker"]):
    from conformance.readings import check_input
    from worker.inprocess import InProcess

HERE = Path(__file__).parent
SEEDS = HERE / "seeds"
CACHE = HERE.parents[1] / ".cache/fuzz"
INPUT_MAX_BYTES = 4096
KEPT_MAX_BYTES = 512
HANG_S = 20
MEMORY_MAX_MIB = 1024


def main(arguments: list[str]) -> None:
    """Fuzz for a bounded time, or keep what was found."""
    workers: dict[int, InProcess] = {}
    randomness = random.Random(0)  # it chooses where to cut, and is the same for the same input
    # libFuzzer merges in a process of its own, and runs its first argument with a shell for it.
    command = f"{sys.executable} {__file__}"
    atheris.Setup([command, *_options(arguments)], lambda data: check_input(data, workers, randomness))
    atheris.Fuzz()


def _options(arguments: list[str]) -> list[str]:
    if any(each.startswith("-merge_inner") for each in arguments):
        return arguments
    corpus = CACHE / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for path in (HERE / "corpus").glob("*/*.raw"):
        for flags in (b"\0", b"\1"):
            (corpus / f"{path.parent.name}-{path.stem}-{flags[0]}").write_bytes(flags + path.read_bytes())
    options = [f"-dict={HERE / 'fuzz.dict'}", f"-timeout={HANG_S}"]
    if arguments == ["keep"]:
        return [*options, f"-max_len={KEPT_MAX_BYTES}", "-merge=1", str(SEEDS), str(corpus)]
    return [
        *options,
        f"-max_len={INPUT_MAX_BYTES}",
        f"-max_total_time={int(os.environ.get('FUZZ_SECONDS', '60'))}",
        f"-rss_limit_mb={MEMORY_MAX_MIB}",
        f"-artifact_prefix={CACHE}/",
        "-print_final_stats=1",
        *arguments,
        str(corpus),
        str(SEEDS),
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
