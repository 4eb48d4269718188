"""Several processes that answer calls on one port.

gunicorn's arbiter starts them, replaces one that dies or hangs, and ends them. What it has not is a
reload that all of them make together or none; that is here.
"""
