"""What Snakemake's own report shows beside our pages."""
