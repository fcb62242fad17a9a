"""Ratios against stock Keras, measured in one run."""
