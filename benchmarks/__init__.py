"""Measures ratios against stock Keras, PyTorch and bare runtimes, each within one run."""
