"""Masks in the formats of other tools."""
