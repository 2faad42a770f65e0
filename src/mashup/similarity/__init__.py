"""How alike two checkpoints are: the angle between what they change in their base."""
