"""Photographs in, records out: patches, degradation, columns, shards and the joined data set."""
