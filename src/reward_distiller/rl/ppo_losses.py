"""The equations of PPO for responses, token by token. Shapes: R responses, T tokens; `mask` says where a token is.

Knows no networks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(score_R: Tensor, log_p_RT: Tensor, reference_log_p_RT: Tensor, mask_RT: Tensor, kl: float) -> Tensor:
    """Minus kl (ln π - ln π_ref) at each token, and the response's reward at its last (Ziegler et al., 2019, eq. 2)."""
    reward_RT = -kl * (log_p_RT - reference_log_p_RT) * mask_RT
    last_R = mask_RT.long().sum(1) - 1
    return reward_RT.scatter_add(1, last_R[:, None], score_R[:, None].to(reward_RT.dtype))


def generalized_advantages(
    reward_RT: Tensor, value_RT: Tensor, mask_RT: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns (Schulman et al., 2016, equations 11 to 16). Behind the last token the value is 0."""
    advantage_RT = torch.zeros_like(reward_RT)
    next_advantage_R = next_value_R = torch.zeros_like(reward_RT[:, 0])
    for t in reversed(range(reward_RT.shape[1])):
        there_R = mask_RT[:, t]
        delta_R = reward_RT[:, t] + gamma * next_value_R - value_RT[:, t]
        advantage_RT[:, t] = (delta_R + gamma * lam * next_advantage_R) * there_R
        next_advantage_R = torch.where(there_R, advantage_RT[:, t], next_advantage_R)
        next_value_R = torch.where(there_R, value_RT[:, t], next_value_R)
    return advantage_RT, (advantage_RT + value_RT) * mask_RT


def whitened(value_RT: Tensor, mask_RT: Tensor) -> Tensor:
    """Mean 0 and variance 1 over all tokens; 0 where no token is."""
    values = value_RT[mask_RT]
    return (value_RT - values.mean()) * torch.rsqrt(values.var(correction=0) + 1e-8) * mask_RT


def clipped_policy_loss(
    log_p_RT: Tensor, old_log_p_RT: Tensor, advantage_RT: Tensor, mask_RT: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """The sum over tokens of the clipped surrogate (Schulman et al., 2017, equation 7), and of tokens at the clip."""
    ratio_RT = (log_p_RT - old_log_p_RT).exp()
    free_RT = -advantage_RT * ratio_RT
    held_RT = -advantage_RT * ratio_RT.clamp(1 - clip, 1 + clip)
    loss_RT = torch.maximum(free_RT, held_RT)
    return (loss_RT * mask_RT).sum(), ((held_RT > free_RT) & mask_RT).sum()


def clipped_value_loss(
    value_RT: Tensor, old_value_RT: Tensor, return_RT: Tensor, mask_RT: Tensor, clip: float
) -> Tensor:
    """The sum over tokens of half the squared error, or of that of the value held within `clip` of the old one."""
    held_RT = old_value_RT + (value_RT - old_value_RT).clamp(-clip, clip)
    worse_RT = torch.maximum((value_RT - return_RT) ** 2, (held_RT - return_RT) ** 2)
    return 0.5 * (worse_RT * mask_RT).sum()
