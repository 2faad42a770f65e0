"""Merge checkpoints exactly, LoRAs in factors and models in a stream, into a start for training."""
