"""What all latent diffusion methods share: schedule, sampling, tiles, attention blocks, the guided walk of a UNet."""
