"""SpaSemSR: spatial-semantic guided diffusion."""
