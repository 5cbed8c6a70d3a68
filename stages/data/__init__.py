"""From annotations and images to samples: sources, expressions, tokens, negatives, data sets."""
