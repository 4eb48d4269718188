"""The place of the peers: the same policy as its users would write it in another framework.

One module per peer, each with a function that gives a :class:`bench.servers.Launch`: the command
that starts it on loopback, its audit file, and whether it asks for credentials. Everything else,
proof of its answers included, is that of our own server.
"""
