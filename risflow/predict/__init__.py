"""risflow predict, and the Python API."""
