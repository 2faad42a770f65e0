"""Leave-one-out experiments: a YAML file in, jobs that survive a kill, records out."""
