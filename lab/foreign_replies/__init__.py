"""Generated replies of foreign servers through the three readers of them, against the contract."""
