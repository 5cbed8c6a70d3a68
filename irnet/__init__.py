"""Pseudo masks from response maps: the inter-pixel relation network (Ahn et al., CVPR 2019)."""

import stages  # noqa: F401  (OpenMP's settings, before torch is imported)
