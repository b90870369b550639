"""``python -m djsup``: the command line."""

from djsup.cli import main

main()
