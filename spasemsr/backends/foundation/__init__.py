"""Backends with pretrained weights: the models the paper used. Libraries are imported where a model is built."""
