"""The network of the paper and its diffusion, as torch modules that know nothing of files or data sets."""
