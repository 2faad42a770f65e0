"""Was it worth it? Arms and controls on the same task, budget, seeds and splits."""
