"""Where the KL term's teacher distributions come from: an LM that is asked while training, or a store of its top k.

Both give, for the supervised tokens of teacher responses in order, what `regularizer` compares the student with.
Knows no students and no losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from reward_distiller.errors import ModelError
from reward_distiller.model.chat import Encoded
from reward_distiller.model.layout import padded
from reward_distiller.model.regularizer import FullTeacher, LMHead, TopK
from reward_distiller.model.teacher_distributions import TopKStore
from reward_distiller.model.tree_attention import hidden_states


class TokenTeacher(Protocol):
    def of(self, responses: Sequence[Encoded], device: torch.device) -> FullTeacher | TopK:
        """The teacher at every supervised token of the responses, one response after the other."""


@dataclass(frozen=True)
class ReferenceLM:
    """The teacher as a local LM, for the KL over the whole vocabulary."""

    lm: Any

    @torch.no_grad()
    def of(self, responses: Sequence[Encoded], device: torch.device) -> FullTeacher:
        head = LMHead.of(self.lm.get_output_embeddings(), getattr(self.lm.config, "final_logit_softcapping", None))
        if not responses:
            return FullTeacher(head.weight_VD.new_zeros((0, head.weight_VD.shape[1])), head)
        layout = padded([r.ids for r in responses], 0)
        # The hidden state at t - 1 predicts the token at t, for the teacher as for the student.
        slots = [layout.slots_of(i)[r.response.start - 1 : r.response.stop - 1] for i, r in enumerate(responses)]
        hidden_SD = hidden_states(self.lm.base_model, layout.to(device))
        return FullTeacher(hidden_SD[torch.cat(slots).to(device)], head)


@dataclass(frozen=True)
class StoredTeacher:
    """The teacher's top-k log-probabilities, computed or bought before; found by prompt and response.

    With `gaps`, a response that the store lacks is taken as certain of its own tokens: there the KL is the NLL, so that
    NLL and KL weigh alpha + beta together for every response.
    """

    store: TopKStore
    gaps: bool = False

    @classmethod
    def open(cls, path: str | Path, tokenizer: Any, *, gaps: bool = False) -> StoredTeacher:
        """Raises ModelError where the store is of another vocabulary than the tokenizer's."""
        store = TopKStore.open(path)
        store.check_vocabulary(tokenizer)
        return cls(store, gaps)

    def of(self, responses: Sequence[Encoded], device: torch.device) -> TopK:
        ids, log_p = [], []
        for response in responses:
            targets = response.ids[response.response.start : response.response.stop]
            if self.gaps and response.key not in self.store:
                top = TopK(torch.tensor(targets)[:, None], torch.zeros(len(targets), 1))
            else:
                top = self.store.get(response.key, targets).padded()
            ids.append(top.ids_TK)
            log_p.append(top.log_p_TK)
        widest = max((x.shape[1] for x in ids), default=1)
        pad = [widest - x.shape[1] for x in ids]
        if not ids:
            return TopK(torch.zeros((0, 1), dtype=torch.long, device=device), torch.zeros((0, 1), device=device))
        return TopK(
            torch.cat([F.pad(x, (0, n)) for x, n in zip(ids, pad, strict=True)]).to(device),
            torch.cat([F.pad(x, (0, n), value=-torch.inf) for x, n in zip(log_p, pad, strict=True)]).to(device),
        )


def check_vocabularies(student: Any, teacher: Any, where: str) -> None:
    """Raise ModelError unless the two agree on every token, but for ones added after the other's last id."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    shared = min(max(ours.values()), max(theirs.values()))
    of_id = {identity: token for token, identity in ours.items()}
    wrong = [token for token, identity in theirs.items() if identity <= shared and of_id.get(identity) != token]
    if wrong:
        raise ModelError(
            f"rm_distiller.kl_teacher: {where} has another vocabulary than the student ({len(wrong)} of {len(theirs)} "
            f"tokens differ, {wrong[0]!r} for one). Use a teacher of the same family, or set rm_distiller.beta=0"
        )
