"""Check what is on disk: a merge against its sources, a report against its records."""
