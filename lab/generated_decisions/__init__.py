"""Plugins that answer anything at all, and the proof that no wrong reply leaves because of them.

`python -m lab.generated_decisions --decisions 1000000` drives as many generated
decisions through the chain.
"""
