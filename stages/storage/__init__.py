"""Files that steps pass to each other."""
