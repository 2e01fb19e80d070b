"""What a run would ask of its models, word for word, and what came back; bought only when told to."""
