"""Thin faces of the reward server and the reward model, one file for each trainer that wants rewards."""
