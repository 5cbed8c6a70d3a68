"""What every step shares and what needs no model: config, command line, file formats, metrics."""
