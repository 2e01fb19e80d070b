"""The reward model: chat rendering, objectives, training, export, scoring. Knows no teachers and no methods."""
