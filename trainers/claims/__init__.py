"""Claims about dropout, each an experiment with a rule for its verdict, fixed before the experiment runs."""
