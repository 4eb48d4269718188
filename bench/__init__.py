"""Benchmark of a policy call in units of a bare aiohttp request.

``python -m bench`` runs it. docs/performance.md says how it measures and why.
"""
