"""Cards in the Hub's format, made of what a run found out: of reward models, of policies, of pairs as data."""
