"""MegaSR: latent diffusion guided by the image's own semantics in every block, and by edge, depth and region maps."""
