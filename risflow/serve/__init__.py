"""risflow serve."""
