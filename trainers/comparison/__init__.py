"""Comparisons of placements over runs that are paired by seed."""
