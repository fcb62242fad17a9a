"""Exported models: folders that give the same predictions in every runtime and are checked before opening."""
