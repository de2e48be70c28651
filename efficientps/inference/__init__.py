"""Prepare a trained network for fast predictions: fold norms, cast weights, fuse activations, record CUDA graphs."""
