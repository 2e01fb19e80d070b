"""Attention over a forest of prefix trees: a token sees itself and the tokens on its path, at their own positions.

Registered with `transformers` as an attention implementation, so any decoder built on its attention interface
takes it. On a CPU each segment attends to the gathered keys of its path, which is exactly the work of separate
rows less what they share; on a GPU FlexAttention skips what no token of a block may see. Sliding windows are
kept in position space, score soft-capping (Gemma 2) is applied as the models do it. A model is let in by a
test on itself: hidden states in a tree against separate rows. Knows no rewards and no losses.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from reward_distiller.model.layout import Forest, Layout, forest, padded

NAME = "reward_distiller_trees"
CHUNK = 256  # queries at once: measured, 64 to 256 take the same time, and segments seldom are longer
LAYER_TYPES = {"full_attention", "sliding_attention"}
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
# Hidden states in trees and in separate rows agree up to rounding; what a wrong mask does is of order one.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


class TreeMasks:
    """What a forest lets its tokens see, made once for all layers of a forward pass."""

    def __init__(self, layout: Layout):
        assert layout.forest is not None
        self.forest: Forest = layout.forest
        self.positions_L = layout.positions_RL[0]
        self.lengths = [s.length for s in self.forest.segments]
        self._of_segment: dict[tuple[int, int, int | None], Tensor] = {}
        self._blocks: dict[int | None, Any] = {}

    def of_segment(self, length: int, depth: int, window: int | None) -> Tensor:
        """Whether query i of a segment sees position j of its path and itself, bool (length, depth + length)."""
        key = (length, depth, window)
        if key not in self._of_segment:
            at = torch.arange(depth + length, device=self.positions_L.device)
            query, keys = at[depth:, None], at[None]
            seen = keys <= query
            if window is not None:
                seen &= keys > query - window
            self._of_segment[key] = seen
        return self._of_segment[key]

    def blocks(self, window: int | None) -> Any:
        """FlexAttention's BlockMask: a token is seen from those that stand below it, within the window."""
        from torch.nn.attention.flex_attention import create_block_mask

        if window not in self._blocks:
            positions, device = self.positions_L, self.positions_L.device
            ends = self.forest.subtree_ends().to(device)

            def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                below = (key <= query) & (query < ends[key])
                return below if window is None else below & (positions[query] - positions[key] < window)

            size = positions.shape[0]
            self._blocks[window] = create_block_mask(sees, None, None, size, size, device=device)
        return self._blocks[window]


def tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    trees: TreeMasks | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """An attention function of `transformers`: heads first in, (1, slots, heads, head size) out."""
    if trees is None:
        raise ValueError("this model is set up for prefix trees; call it through `hidden_states`")
    if sliding_window is None and getattr(module, "layer_type", None) == "sliding_attention":
        raise ValueError(f"{type(module).__name__} does not tell its sliding window")
    if not getattr(module, "is_causal", True):
        raise ValueError(f"{type(module).__name__} looks both ways")
    if dropout:
        raise ValueError("attention dropout is on: a reward would change from call to call")
    if query.is_cuda:
        output = _flex(query, key, value, trees, scaling, sliding_window, softcap)
    else:
        output = _by_segment(query, key, value, trees, scaling, sliding_window, softcap)
    return output.transpose(1, 2), None


def _by_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    trees: TreeMasks,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """A split has one backward for all its pieces; slices would each fill a gradient of the whole.

    Long segments are sliced all the same, since a mask spares no work: a chunk reads no keys behind it.
    """
    queries, keys, values = (torch.split(x, trees.lengths, dim=2) for x in (query, key, value))
    groups = query.shape[1] // key.shape[1]
    outputs = []
    for at, segment in enumerate(trees.forest.segments):
        line = (*segment.path, at)
        k, v = (torch.cat([pieces[s] for s in line], dim=2) for pieces in (keys, values))
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        windowed = window is not None and segment.depth + segment.length > window
        if segment.depth == 0 and not windowed and softcap is None:
            outputs.append(F.scaled_dot_product_attention(queries[at], k, v, is_causal=True, scale=scaling))
            continue
        seen = trees.of_segment(segment.length, segment.depth, window if windowed else None)
        for start in range(0, segment.length, CHUNK):
            stop = min(start + CHUNK, segment.length)
            past = segment.depth + stop  # keys behind it are seen by no query of the chunk
            part = (queries[at][:, :, start:stop], k[:, :, :past], v[:, :, :past])
            mask = seen[start:stop, :past]
            if softcap is None:
                outputs.append(F.scaled_dot_product_attention(*part, attn_mask=mask, scale=scaling))
            else:
                outputs.append(_soft_capped(*part, mask, scaling, softcap))
    return torch.cat(outputs, dim=2)


def _soft_capped(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scaling: float | None, cap: float) -> Tensor:
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = (cap * torch.tanh(scores / cap)).masked_fill(~seen, float("-inf"))
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    trees: TreeMasks,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    def capped(score: Tensor, batch: Tensor, head: Tensor, at: Tensor, seen: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    run = _compiled_flex() if query.is_cuda else flex_attention
    output: Tensor = run(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=trees.blocks(window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output


AttentionInterface.register(NAME, tree_attention)


def hidden_states(base_model: Any, layout: Layout) -> Tensor:
    """Last hidden states (slots, D) of a decoder without its head."""
    if layout.forest is None:
        output = base_model(input_ids=layout.ids_RL, attention_mask=layout.mask_RL, use_cache=False)
    else:
        trees = TreeMasks(layout)
        output = base_model(input_ids=layout.ids_RL, position_ids=layout.positions_RL, trees=trees, use_cache=False)
    return output.last_hidden_state.flatten(0, 1)


def enable_trees(base_model: Any) -> str | None:
    """Set a decoder up for trees, or say why it cannot honour them and leave it as it is."""
    if base_model.config._attn_implementation == NAME:
        return None
    config = base_model.config.get_text_config()
    name = type(base_model).__name__
    other = set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES
    if getattr(base_model, "_is_stateful", False) or other:
        what = f"layers of type {', '.join(sorted(map(str, other)))}" if other else "a recurrent state"
        return f"{name} has {what}, which would run through a tree's branches one after the other"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope in LENGTH_DEPENDENT_ROPE:
        return f"{name} has a rotary embedding of type {rope}, which depends on the longest sequence of a batch"
    if not getattr(base_model, "_supports_attention_backend", False):
        return f"{name} does not use the attention interface of transformers"
    before, training = base_model.config._attn_implementation, base_model.training
    base_model.eval()
    try:
        difference = _difference_of_trees(base_model, config.vocab_size)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        difference, reason = float("inf"), f"{name} does not run on trees ({str(error).splitlines()[0]})"
    else:
        reason = f"the hidden states of {name} in a tree differ from those of separate rows by {difference:.1g}"
    finally:
        base_model.train(training)
    if difference <= TOLERANCE[base_model.dtype]:
        return None
    base_model.set_attn_implementation(before)
    return reason


@torch.no_grad()
def _difference_of_trees(base_model: Any, vocabulary: int) -> float:
    """The largest difference in hidden states, over their largest value, for three short sequences."""
    tokens = torch.randint(vocabulary, (12,), generator=torch.Generator().manual_seed(0)).tolist()
    sequences = [tuple(tokens[:9]), tuple(tokens[:6] + tokens[9:]), tuple(tokens[:3] + tokens[6:9])]
    device = base_model.device
    rows = [hidden_states(base_model, padded([s], 0).to(device)) for s in sequences]
    base_model.set_attn_implementation(NAME)
    layout = forest(sequences).to(device)
    tree = hidden_states(base_model, layout)
    differences = [(tree[layout.slots_of(i)] - row).abs().max() for i, row in enumerate(rows)]
    return float(max(differences) / max(row.abs().max() for row in rows))
