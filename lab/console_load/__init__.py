"""A server under load with a live page of the console, and without."""
