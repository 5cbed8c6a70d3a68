"""risflow report and risflow compare."""
