"""Answers of trained models: what the steps, the command and the Python API share."""
