"""From annotations and pictures to samples: sources, expressions, tokens, negatives, data sets."""
