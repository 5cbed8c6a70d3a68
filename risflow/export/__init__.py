"""risflow export."""
