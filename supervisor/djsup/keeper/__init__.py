"""The keeper: what programs need to outlive a daemon that is killed.

A program prints to pipes and speaks to a socket that the daemon reads, and it cannot look for another daemon, as a worker
does. The keeper has the same reading ends, and does nothing with them. When the daemon is gone it reads in its place, so
that no program blocks or is killed by SIGPIPE, and gives all of it to the next daemon. When none comes, it ends the programs.

It runs as the daemon does, for it has to send signals to programs of every user; nothing that a program writes is
understood here but what ``shell/notifications.py`` does.
"""
