"""Bringing rules, rooms and domains in from CSV files and from earlier policy servers.

What is there already is updated under its name and never doubled; comments stay.
"""
