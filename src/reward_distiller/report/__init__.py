"""What a person reads after a run: one page made of its folder. Makes nothing anew, and changes no run."""
