"""djsup: one daemon that runs many Django sites."""

__version__ = "0.1.0"
