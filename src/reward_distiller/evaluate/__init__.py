"""How good a scorer is: metrics with intervals, and what trivial scorers get. Knows not how a scorer was made."""
