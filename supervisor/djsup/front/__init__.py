"""The configuration of a proxy in front of djsup, as text: one module a proxy.

Settings in, text out: nothing is read, asked or written here. ``origin`` is what every proxy has to know of a
site; each other module writes that in the words of one proxy.
"""
