"""SpaSemSR: spatial-semantic guided diffusion super-resolution, from photographs to shards to a trained model."""

__version__ = "0.1.0"
