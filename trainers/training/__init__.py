"""One run: trains a plan in one folder and can be resumed at any time."""
