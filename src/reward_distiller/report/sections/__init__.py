"""The report's sections, one file each: from a run to markup, or None where the run has nothing of that kind."""
