"""Files that steps hand to each other."""
