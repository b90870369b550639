"""The router: a process that hands each request on a shared address to a worker of the site that it is for.

It accepts, looks at a head, and passes the connection's descriptor to the least busy worker of the site
(``djsup_worker/link.py`` has the line's grammar). The worker reads the request, answers the client by itself, and gives
the connection back when it is idle: so each request is routed by itself, and no answer passes through here.

``head`` says what a head asks for, ``core/routes`` whose that is; ``sites`` keeps workers and queues, ``clients`` the
connections, ``loop`` the epoll; ``orders`` is what the daemon says. ``vault`` is a process that keeps the connections
alive when the router is not.
"""
