"""Raw HTTP fuzz of a running server: what a hostile or broken client may put on the wire.

`python -m lab.fuzz` starts the server by its command line and shoots at it over TCP.
Every case is made from its own number and the seed, so that `--only N` prints the bytes of case N
again.
"""
