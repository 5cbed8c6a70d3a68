"""risflow status."""
