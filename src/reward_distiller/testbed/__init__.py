"""A miniature world with a known truth, in which every method can be run whole in minutes on a laptop.

It speaks the same protocols as the real parts: its models answer chat-completion requests, its student
is a Hugging Face checkpoint. Nothing above it imports it; the command line hands it in by name.
"""
