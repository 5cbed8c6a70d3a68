"""The command and the Python API."""
