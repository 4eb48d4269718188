"""Importers of rules, rooms and domains from CSV files and from other policy servers."""
