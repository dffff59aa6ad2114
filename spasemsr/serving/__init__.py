"""The page that restores pictures in a browser; everything it loads comes from this machine."""
