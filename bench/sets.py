"""What a comparison computes on: the surviving items of a profile, in blocks that every side does whole.

Every side gets the same ids. What a block costs by counting is known here, before anything is computed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench import ours, profiles
from bench.counting import Ids, Work, distinct, separate
from bench.settings import Comparison, Settings
from reward_distiller.files import write_text
from reward_distiller.model.batches import EncodedPair
from reward_distiller.model.chat import ChatFormat, Encoded
from reward_distiller.records import canonical_json


@dataclass
class Items:
    """Items by id (an encoded pair; in scoring the encoded responses to a prompt), in blocks of ids."""

    pairs: dict[str, EncodedPair] = field(default_factory=dict)
    rows: dict[str, list[Encoded]] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)  # what they were made from, as JSON
    blocks: list[list[str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def write(self, folder: Path) -> None:
        """The records of all blocks, for our sides."""
        write_text(folder / "items.jsonl", "".join(self.records[i] + "\n" for block in self.blocks for i in block))

    def units(self, block: list[str]) -> int:
        """Pairs; in scoring, responses."""
        return sum(len(self.rows[i]) for i in block) if self.rows else len(block)

    def needed(self, block: list[str], side: str) -> Work:
        """What a side has to compute if it padded nothing and threw nothing away."""
        if self.rows:
            every: list[Ids] = [s.ids for i in block for s in self.rows[i]]
            return distinct(every) if side == "tree" else separate(every)
        pairs = [self.pairs[i] for i in block]
        shared: dict[str, set[Ids]] = {}  # the sequences that a side computes once: of a prompt, or of a pair
        teachers: dict[tuple[str, Ids], int] = {}
        for pair in pairs:
            owner = pair.prompt_id if side in ("tree", "padded_distinct") else pair.id
            shared.setdefault(owner, set()).update((pair.chosen.ids, pair.rejected.ids))
            for supervised in pair.supervised:
                shared[owner].add(supervised.ids)
                teachers[owner, supervised.ids] = len(supervised.response)
        sequences = [s for of_owner in shared.values() for s in of_owner]
        return (distinct if side == "tree" else separate)(sequences, sum(teachers.values()))


def training_items(comparison: Comparison, settings: Settings, chat: ChatFormat, folder: Path) -> Items:
    """Encoded pairs of a profile, all pairs of a prompt or none; what was given is written to `folder` for TRL."""
    full = comparison.work == "full_objective"
    # Prompts enough where three of four fall away; TRL's sampler draws from all of them.
    prompts = 4 * comparison.per_block * (comparison.repeats + 1) if full else None
    count = ours.prompt_tokens(chat)
    profile = profiles.load(comparison.profile, Path(settings.data), settings.seed, count, prompts)
    encoded, dropped = ours.encode(profile.pairs, chat, settings, comparison.work)
    whole = {pair.id: pair for pair in encoded if pair.supervised or not full}
    lost = {pair.prompt.id for pair in profile.pairs if pair.id not in whole}
    kept = [pair for pair in profile.pairs if pair.prompt.id not in lost]
    items = Items(left_out=profile.left_out + dropped)
    items.left_out["another pair of the prompt was left out"] = len(whole) - len(kept)
    items.pairs = {pair.id: whole[pair.id] for pair in kept}
    items.records = {pair.id: pair.model_dump_json() for pair in kept}
    write_text(folder / "given.jsonl", "".join(pair.model_dump_json() + "\n" for pair in profile.pairs))
    items.blocks = cut(list(items.pairs), comparison)
    return items


def scoring_items(comparison: Comparison, settings: Settings, chat: ChatFormat) -> Items:
    """The first prompts of the profile whose responses all fit the model."""
    items = Items()
    wanted = comparison.per_block * (comparison.repeats + 1)
    count = ours.prompt_tokens(chat) if comparison.profile.endswith("prompt_500") else None
    if comparison.profile == "rm_bench":
        drawn = profiles.rm_bench_rows(Path(settings.data), settings.seed)
    else:
        drawn = profiles.best_of_16(Path(settings.data), settings.seed, count)
    for prompt, responses in drawn:
        if len(items.rows) == wanted:
            break
        row = ours.encode_row(prompt, responses, chat)
        if max(map(len, row)) > ours.SCORING_LENGTH:
            items.left_out[f"a response makes more than {ours.SCORING_LENGTH} tokens"] += 1
            continue
        items.rows[prompt.id] = row
        record = {"id": prompt.id, "prompt": prompt.model_dump(), "responses": responses}
        items.records[prompt.id] = canonical_json(record)
    items.blocks = cut(list(items.rows), comparison)
    return items


def cut(ids: list[str], comparison: Comparison) -> list[list[str]]:
    """One block more than there are repeats: the first one warms up, so two items do, except to TRL's fixed steps."""
    warm_up = comparison.per_block if "trl" in comparison.against else 2
    starts = range(warm_up, len(ids) - comparison.per_block + 1, comparison.per_block)
    blocks = [ids[:warm_up], *(ids[at : at + comparison.per_block] for at in starts)][: comparison.repeats + 1]
    if len(blocks) <= comparison.repeats:
        raise ValueError(f"{comparison.name}: {len(ids)} items survive, too few for {comparison.repeats + 1} blocks")
    return blocks
