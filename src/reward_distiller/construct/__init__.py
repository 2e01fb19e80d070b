"""From prompts (or labeled pairs) to preference pairs: one step a file. Knows no torch.

A step is a pure function from records, and the answers it asks for, to records; it gives back what it
kept and a balance of what became of the rest.
"""
