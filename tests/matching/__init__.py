"""The matching engine, held against a naive reading of what is written."""
