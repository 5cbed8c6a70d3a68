"""The pretrained networks that models are built on, each as plain named features."""
