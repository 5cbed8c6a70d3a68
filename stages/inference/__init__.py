"""Predictions of trained models, for the steps, the command and the Python API."""
