"""Columns on many workers: what to compute, what the cache holds already, who computes the rest, how it is written."""
