"""The same policy as its users would write it in other frameworks.

Each peer has two rooms and a default room, one set of credentials, and an audit line for each call
in a file; none checks its reply, and none has more features than its documentation shows. They
are proved and measured like our own server.
"""
