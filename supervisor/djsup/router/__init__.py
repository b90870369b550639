"""The router: a process that hands each request on a shared address to a worker of the site that it is for.

It accepts, reads a head, and passes what it has read with the connection's descriptor to the least busy worker of the
site (``djsup_worker/link.py`` has the line's grammar). The worker reads the rest, answers the client by itself, and gives
the connection back when it is idle: so each request is routed by itself, and no answer passes through here.

``head`` says what a head asks for, ``core/routes`` whose that is; ``sites`` keeps workers and queues, ``clients`` the
connections, ``loop`` the epoll; ``orders`` is what the daemon says.
"""
