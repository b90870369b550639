"""The dashboard: a process of its own that shows the daemon in a browser."""
