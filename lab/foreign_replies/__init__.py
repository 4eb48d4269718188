"""Generated replies of foreign servers through the three readers of them, against the contract.

`python -m lab.foreign_replies --replies 1000000` reads as many replies three times
each.
"""
