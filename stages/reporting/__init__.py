"""Parts of the report: score table, curves, examples."""
