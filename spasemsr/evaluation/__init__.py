"""Metrics, scores and the report."""
