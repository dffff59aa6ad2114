"""SeeSR: latent diffusion guided by tags (hard prompt) and by a recogniser's representation of lr (soft prompt)."""
