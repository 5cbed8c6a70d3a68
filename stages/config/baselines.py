"""Trivial predictions that every data set is scored with, for comparison."""

BASELINES = ("whole_image", "center_box")  # of the whole image, and of its middle half each way
