"""The reward server: one scoring core behind HTTP. Knows the reward model, and nothing of how it was made.

A request goes through `gate.py` (token, size, stop), `app.py` and `wire.py` (routes and formats), to `core.py`,
where it is scored together with whatever else waits.
"""
