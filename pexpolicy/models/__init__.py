"""The contract with Infinity, as the models keep it: what a field is, which rules there are, and
what is said of a breach. The models stand in ``pexpolicy.endpoints``, a module for each request.
"""
