"""The stages: what runs, in which order; one file per DVC stage."""
