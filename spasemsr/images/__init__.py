"""Pictures from and to files: opening with limits, 8-bit sRGB for training, everything kept for upscaling."""
