"""The tests mirror the tree; `worlds` builds the small projects, networks and checkpoints they run on."""
