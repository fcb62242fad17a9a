"""Inputs for predictions: image files, arrays and texts, read into one batch."""
