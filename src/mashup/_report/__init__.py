"""Records in; tables, pictures and one self-contained page out. Nothing here loads torch."""
