"""``djsup``, and ``python -m djsup``: the command line."""

import os

from djsup import turns
from djsup.turns import Turn


def main() -> None:
    """Run it and exit. Whatever answers requests comes first: to import what a verb needs takes a tenth of a second."""
    turns.take(os.getpid(), Turn.LONG)

    from djsup import cli  # noqa: PLC0415  # as said

    cli.main()


if __name__ == "__main__":
    main()
