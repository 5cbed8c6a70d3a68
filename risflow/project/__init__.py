"""Verbs on a project: new-dataset, fetch, import."""
