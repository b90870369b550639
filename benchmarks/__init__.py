"""djsup beside other WSGI servers: the same applications, the same load, the same machine, one command."""
