"""The demo: a real language model and real text from PyPI, from fetching to the table."""
