"""Parts of the inter-pixel relation network: labels, network, random walk, instances."""
