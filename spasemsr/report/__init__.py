"""The report: scores, curves and pictures of all methods on one self-contained page."""
