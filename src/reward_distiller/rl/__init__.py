"""Policies trained with rewards: SFT, GRPO and DAPO on TRL, our own PPO, and what the reward is made of.

Knows not how a reward model was made.
"""
