"""The conformance test of any policy server: it plays a Conferencing Node and judges each reply."""
