"""Relevance of checkpoints to a task: the loss of each on a sample of its training rows."""
