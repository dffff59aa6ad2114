"""What a profile costs before it is run: disk, memory, GPU-hours, and what is missing."""
