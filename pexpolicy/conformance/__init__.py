"""The conformance test of policy servers: the requests of a Conferencing Node, and the checks."""
