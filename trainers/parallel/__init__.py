"""Runs in several processes and on several machines."""
