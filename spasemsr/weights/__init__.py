"""Where pretrained weights come from, and the only doors through which they are loaded."""
