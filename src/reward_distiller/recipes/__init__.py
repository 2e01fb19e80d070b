"""Whole runs: from a config to a run folder with pairs, a reward model and its figures."""
