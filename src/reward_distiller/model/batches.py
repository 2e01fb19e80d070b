"""Pairs as token sequences, in optimizer steps of a fixed number of pairs and micro-batches of bounded size.

The unit is a prompt: its pairs stand together, a sequence that several of them share (the rejected
response of a sampled and of a refined pair, the teacher's response) is computed once. The order of
everything follows from the seed, whatever the number of processes. Knows no losses.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rapidfuzz.distance import Levenshtein

from reward_distiller.errors import TrainingError
from reward_distiller.model.alignment import Place, aligned_places
from reward_distiller.model.chat import ChatFormat, Encoded
from reward_distiller.model.critiques import with_critique
from reward_distiller.model.layout import distinct_tokens
from reward_distiller.records import Pair

EDIT_KEEPS = 0.5  # of the characters; a response rewritten further is another text, not an edit


@dataclass(frozen=True)
class Reading:
    """What a method's loss reads of a pair.

    `scores` names the teacher's scores of each response: `overall` or attributes. `supervised` are the texts that the
    LM head learns to write. With `request`, rewards are read behind critiques, which that user's turn asks for.
    `weights` says how much a pair of a source weighs in the mean of the pair loss, beside 1 for those of all others.
    With `aligned`, refined pairs are also compared at the places where their two responses are aligned. With `singles`
    each response is read by itself, and a pair of a response with itself stands for one.
    """

    scores: tuple[str, ...] = ()
    supervised: Literal["nothing", "teacher_response", "critiques"] = "nothing"
    request: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    aligned: bool = False
    singles: bool = False


@dataclass(frozen=True)
class EncodedPair:
    """Two sequences with the scores of each (one an attribute; zeros where none are read), and what is supervised."""

    id: str
    prompt_id: str
    chosen: Encoded
    rejected: Encoded
    chosen_scores: tuple[float, ...]
    rejected_scores: tuple[float, ...]
    supervised: tuple[Encoded, ...] = ()
    weight: float = 1.0
    places: tuple[Place, ...] = ()  # where the two are compared before their ends


@dataclass
class Group:
    """A prompt's part of a step: distinct sequences, and pairs with the places of their two."""

    sequences: list[Encoded] = field(default_factory=list)
    pairs: list[tuple[int, int, EncodedPair]] = field(default_factory=list)
    supervised: Counter[int] = field(default_factory=Counter)  # sequence -> pairs of this step it stands for

    def index(self, sequence: Encoded) -> int:
        """The place of a sequence; the supervised twin of an equal one replaces it."""
        for at, known in enumerate(self.sequences):
            if known.ids == sequence.ids:
                if sequence.response:
                    self.sequences[at] = sequence
                return at
        self.sequences.append(sequence)
        return len(self.sequences) - 1

    def longest(self) -> int:
        return max(len(s) for s in self.sequences)

    def tokens(self) -> int:
        """Distinct tokens: the slots that the group takes in a forest."""
        return distinct_tokens([s.ids for s in self.sequences])


def encode_pairs(
    pairs: Sequence[Pair], chat: ChatFormat, max_length: int, reading: Reading
) -> tuple[list[EncodedPair], Counter[str]]:
    """Encode pairs; drop and count what is too long to be read whole. Raises TrainingError for what a pair lacks."""
    encoded = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        chosen, rejected = (_sequence(pair, side, chat, reading) for side in ("chosen", "rejected"))
        supervised: tuple[Encoded, ...] = ()
        if reading.supervised == "critiques":
            supervised = tuple(s for s in (chosen, rejected) if s.response)  # an empty one may have no token at all
        if reading.supervised == "teacher_response" and pair.teacher_response is not None:
            supervised = (chat.encode(pair.prompt.as_dicts(), pair.teacher_response, supervised=True),)
        if max(len(chosen), len(rejected)) > max_length:
            dropped[f"longer than max_length={max_length}"] += 1
        elif chosen.ids == rejected.ids and not (reading.singles and pair.chosen == pair.rejected):
            dropped["equal token sequences"] += 1
        else:
            if any(len(s) > max_length for s in supervised):
                dropped["teacher response left out: too long"] += 1
                supervised = ()
            s_w, s_l = (_scores(pair, side, reading.scores) for side in ("chosen", "rejected"))
            weight = reading.weights.get(pair.source, 1.0)
            aligned = reading.aligned and pair.source == "refined" and _is_edit(pair)
            places = aligned_places(chosen.ids, rejected.ids) if aligned else ()
            encoded.append(EncodedPair(pair.id, pair.prompt.id, chosen, rejected, s_w, s_l, supervised, weight, places))
    return encoded, dropped


def _is_edit(pair: Pair) -> bool:
    """Whether most of the rejected response is still there: what two separate texts have in common says nothing."""
    return Levenshtein.normalized_similarity(pair.chosen, pair.rejected) >= EDIT_KEEPS


def _sequence(pair: Pair, side: str, chat: ChatFormat, reading: Reading) -> Encoded:
    messages, response = pair.prompt.as_dicts(), getattr(pair, side)
    if reading.request is None:
        return chat.encode(messages, response)
    critique = getattr(pair, f"{side}_critique")
    if critique is None:
        raise TrainingError(f"pair {pair.id} has no {side}_critique, and the method reads one. Add it to the rows")
    supervised = reading.supervised == "critiques"
    return chat.encode(with_critique(messages, response, reading.request), critique, supervised=supervised)


def _scores(pair: Pair, side: str, names: Sequence[str]) -> tuple[float, ...]:
    if not names:
        return (0.0,)
    known = {**(getattr(pair, f"{side}_attributes") or {}), "overall": getattr(pair, f"{side}_score")}
    missing = [name for name in names if known.get(name) is None]
    if missing:
        columns = f"{side}_score" if missing == ["overall"] else f"{side}_attributes with {', '.join(missing)}"
        raise TrainingError(f"pair {pair.id} lacks scores that the method reads. Add {columns} to the rows")
    return tuple(float(known[name]) for name in names)


def plan_steps(
    pairs: Sequence[EncodedPair], pairs_per_step: int, epochs: int, seed: int, shuffle: str = "prompts"
) -> list[list[Group]]:
    """The groups of every optimizer step; shuffled anew in each epoch, by the seed alone.

    With `shuffle="prompts"` the pairs of a prompt stay together. With "pairs" each pair is drawn for itself and brings
    all its sequences along, as in trainers that know only pairs.
    """
    units: dict[str, list[EncodedPair]] = {}
    for pair in pairs:
        units.setdefault(pair.prompt_id if shuffle == "prompts" else pair.id, []).append(pair)
    steps = []
    for epoch in range(epochs):
        order = sorted(units)
        random.Random(f"order:{seed}:{epoch}").shuffle(order)
        line = [(unit, pair) for unit in order for pair in units[unit]]
        for start in range(0, len(line), pairs_per_step):
            steps.append(_groups(line[start : start + pairs_per_step]))
    return steps


def _groups(line: Iterable[tuple[str, EncodedPair]]) -> list[Group]:
    groups: dict[str, Group] = {}
    for unit, pair in line:
        group = groups.setdefault(unit, Group())
        group.pairs.append((group.index(pair.chosen), group.index(pair.rejected), pair))
        for sequence in pair.supervised:
            group.supervised[group.index(sequence)] += 1
    return list(groups.values())


def share(groups: Sequence[Group], processes: int) -> list[list[Group]]:
    """The groups of each data-parallel process: the largest group first, always to who has least to do."""
    shares: list[list[Group]] = [[] for _ in range(processes)]
    work = [0] * processes
    for tokens, at in sorted(((-g.tokens(), i) for i, g in enumerate(groups))):
        least = work.index(min(work))
        shares[least].append(groups[at])
        work[least] -= tokens
    return shares


def micro_batches(groups: Sequence[Group], budget: int, layout: str = "trees") -> list[list[Group]]:
    """Groups of like length together, each batch within `budget` slots (one group at least).

    Slots are distinct tokens in trees, and a rectangle's area in padded rows. There, a supervised sequence that no
    pair reads stands for itself, so that it is padded among its like.
    """
    batches: list[list[Group]] = []
    rows = width = used = 0
    if layout == "padded":
        groups = [part for group in groups for part in _parted(group)]
    for group in sorted(groups, key=Group.longest):
        width = max(width, group.longest())
        rows += len(group.sequences)
        used = used + group.tokens() if layout == "trees" else rows * width
        if not batches or used > budget:
            batches.append([])
            rows, width = len(group.sequences), group.longest()
            used = group.tokens() if layout == "trees" else rows * width
        batches[-1].append(group)
    return batches


def _parted(group: Group) -> list[Group]:
    """The pairs of a group, and each supervised sequence that is in none of them."""
    paired = {at for w, l, _ in group.pairs for at in (w, l)}
    alone = [at for at in group.supervised if at not in paired]
    if not alone or not paired:
        return [group]
    pairs = Group()
    place = {at: pairs.index(group.sequences[at]) for at in sorted(paired)}
    pairs.pairs = [(place[w], place[l], pair) for w, l, pair in group.pairs]
    pairs.supervised = Counter({place[at]: n for at, n in group.supervised.items() if at in paired})
    return [pairs, *(Group([group.sequences[at]], [], Counter({0: group.supervised[at]})) for at in alone)]
