"""A server's tokens as ids of the student's vocabulary, exactly or not at all.

An id is taken as it is; a text is the id that alone decodes to it. A response counts as the same only where the
server's tokens are the student's, one by one, the end token among them: the distributions of other tokens say nothing
of these. Knows no endpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from reward_distiller.model.chat import Encoded
from reward_distiller.model.regularizer import EXCESS
from reward_distiller.model.teacher_distributions import TopKRows

Top = Sequence[tuple[str | int, float]]


class TokenIds:
    """`id` gives the id that a server's token is, None where it is none of the vocabulary or could be several."""

    def __init__(self, tokenizer: Any):
        self.size = len(tokenizer)
        self._of_text: dict[str, int | None] = {}
        for identity in sorted(tokenizer.get_vocab().values()):
            text = tokenizer.decode([identity], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            self._of_text[text] = None if text in self._of_text or "\ufffd" in text else identity

    def id(self, token: str | int) -> int | None:
        if isinstance(token, int):
            return token if 0 <= token < self.size else None
        return self._of_text.get(token)

    def rows(self, response: Encoded, tokens: Sequence[str | int], tops: Sequence[Top]) -> TopKRows | None:
        """The response's distributions; None where its supervised tokens are not the server's, or one has none.

        An alternative that is no token of the student's is left out, and its probability with it.
        """
        targets = [response.ids[at] for at in response.response]
        if [self.id(token) for token in tokens] != targets:
            return None
        entries = []
        for top in tops:
            known = {identity: log_p for token, log_p in top if (identity := self.id(token)) is not None}
            mass = sum(math.exp(min(log_p, 1.0)) for log_p in known.values())  # e is too much already
            if not 0 < mass <= 1 + EXCESS:
                return None
            entries.append([(identity, min(log_p, 0.0)) for identity, log_p in known.items() if log_p > -math.inf])
        return TopKRows.of(response.key, targets, entries)
