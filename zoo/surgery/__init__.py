"""Any other model: opened, its sites recognised, its dropout replaced."""
