"""Metrics and score tables, and what else is asked of results: what guidance does, where seeds disagree."""
