"""What a trained reward model says of the run's own pairs: the rewards of each, and token by token of the most telling.

pair_rewards.jsonl has a row for every pair that is scored, in the order of pairs.jsonl, with `split` saying what the
pair was used for; token_values.jsonl one for each of those whose values are kept. Both go on where a killed run
stopped, and hold the same bytes whether or not it was killed. Knows no report, which shows them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from reward_distiller.config import Config
from reward_distiller.console import track
from reward_distiller.construct.pipeline import split_prompts
from reward_distiller.errors import ModelError
from reward_distiller.files import Row, append_rows, write_rows
from reward_distiller.model.chat import Pieces
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.trainer import exact
from reward_distiller.recipes.kept import kept
from reward_distiller.recipes.training import OWN_CRITIQUES, facts_of, written_critiques
from reward_distiller.records import Pair, content_id

REWARDS, TOKEN_VALUES = "pair_rewards.jsonl", "token_values.jsonl"
CHUNK = 128  # pairs scored between two writes: what a killed run loses at most
TOKEN_CHUNK = 32  # a state for each token is kept while they are scored
SHARE_OF_DISAGREEMENTS = 0.75  # of the most telling pairs; the rest are large edits
DIGITS = 5  # of a token's value, behind the point: what a page can show
TOO_LONG = "longer than the model reads"
NO_CRITIQUE = "the model reads a critique behind the response, and the pair has not both"
BEHIND_CRITIQUE = "the model reads its reward behind a critique, so its head says nothing along the response"
OWN_HEAD = "the model's head reads whole sequences only"
Scored = dict[str, Any]  # a row of pair_rewards.jsonl
Advance = Callable[[], None]


def write_pair_rewards(folder: Path, config: Config, model: RewardModel, pairs: Sequence[Pair]) -> None:
    """Write both files; or none, and remove those that are there, where the config wants no pairs in its report."""
    wanted = chosen_pairs(pairs, config.report.pairs, config.seed)
    if not wanted:
        for name in (REWARDS, TOKEN_VALUES):
            (folder / name).unlink(missing_ok=True)
        return
    run_key = str(facts_of(folder / "model").get("run_key"))
    whose = content_id([run_key, model.max_length])
    with exact(config.training.threads):
        written = written_critiques(folder / OWN_CRITIQUES, run_key) or {}
        rewards = _in_chunks(folder / REWARDS, wanted, CHUNK, whose, partial(_rewards, model, written))
        split = splits(config, pairs)
        rows = [{**row, "split": split[row["id"]]} for row in rewards]
        write_rows(folder / REWARDS, rows)
        telling = most_telling(wanted, {row["id"]: row for row in rows}, config.report.token_values)
        values = _in_chunks(folder / TOKEN_VALUES, telling, TOKEN_CHUNK, whose, partial(_token_values, model))
        write_rows(folder / TOKEN_VALUES, values)


def splits(config: Config, pairs: Sequence[Pair]) -> dict[str, str]:
    """What each pair was for, by its id: `training`, `validation` (chose the best weights) or `held_out`."""
    training, held_out = split_prompts(pairs, config.evaluation.held_out, config.seed)
    _, validation = split_prompts(training, config.training.validation, config.seed, "validation")
    found = {p.id: "training" for p in training}
    return found | {p.id: "validation" for p in validation} | {p.id: "held_out" for p in held_out}


def chosen_pairs(pairs: Sequence[Pair], limit: int, seed: int) -> list[Pair]:
    """At most `limit` pairs in the order they have: all pairs of prompts that are drawn by seed and prompt alone."""
    if len(pairs) <= limit:
        return list(pairs)
    drawn = sorted(pairs, key=lambda p: (random.Random(f"report:{seed}:{p.prompt.id}").random(), p.prompt.id))[:limit]
    ids = {p.id for p in drawn}
    return [p for p in pairs if p.id in ids]


def scaled(rewards: Sequence[float | None], teacher: Sequence[float | None]) -> list[float | None]:
    """Margins of rewards in points of the teacher's scale: times the ratio of the two root mean squares.

    Where no pair has both margins, in units of the rewards' own root mean square.
    """
    both = [(r, t) for r, t in zip(rewards, teacher, strict=True) if r is not None and t is not None]
    known = [r for r, _ in both] or [r for r in rewards if r is not None]
    size = sum(r * r for r in known) ** 0.5
    goal = sum(t * t for _, t in both) ** 0.5 if both else len(known) ** 0.5
    factor = goal / size if size else 0.0
    return [None if r is None else r * factor for r in rewards]


def disagreements(rewards: Sequence[float | None], teacher: Sequence[float | None]) -> list[float | None]:
    """How far apart the margins of the reward model and the teacher are, on the teacher's scale (`scaled`).

    Where the teacher gave no scores its verdict is all there is: how far the rejected response is ahead, else 0.
    None for a pair without rewards.
    """
    return [
        None if r is None else abs(r - t) if t is not None else max(0.0, -r)
        for r, t in zip(scaled(rewards, teacher), teacher, strict=True)
    ]


def margins(pairs: Sequence[Pair], scored: Mapping[str, Scored]) -> tuple[list[float | None], list[float | None]]:
    """The margins of every pair: the reward model's, and the teacher's; None for what is not known."""

    def margin(row: Scored) -> float | None:
        return None if row.get("chosen") is None else row["chosen"] - row["rejected"]

    return [margin(scored.get(p.id, {})) for p in pairs], [p.margin for p in pairs]


def most_telling(pairs: Sequence[Pair], scored: Mapping[str, Scored], count: int) -> list[Pair]:
    """The `count` pairs to look at token by token, in the order of pairs.jsonl.

    Three quarters are those that reward model and teacher disagree most on; the others are the refined pairs with the
    largest edits, by the share of words that differ. Room that one of the two leaves is the other's.
    """
    found = disagreements(*margins(pairs, scored))
    sizes = {p.id: d for p, d in zip(pairs, found, strict=True) if d is not None}
    ranked = sorted((p for p in pairs if p.id in sizes), key=lambda p: (-sizes[p.id], p.id))
    refined = [p for p in ranked if p.source == "refined"]
    first = round(count * SHARE_OF_DISAGREEMENTS) if refined else count
    taken = {p.id for p in ranked[:first]}
    edits = sorted((-_edit(p), p.id) for p in refined if p.id not in taken)
    taken.update(at for _, at in edits[: count - len(taken)])
    taken.update([p.id for p in ranked if p.id not in taken][: max(0, count - len(taken))])
    return [p for p in pairs if p.id in taken]


def _edit(pair: Pair) -> float:
    return Levenshtein.normalized_distance(pair.rejected.split(), pair.chosen.split())


# -- scoring ----------------------------------------------------------------------------------------


def _in_chunks(
    file: Path, pairs: Sequence[Pair], size: int, whose: str, make: Callable[[Sequence[Pair], Advance], list[Row]]
) -> list[Row]:
    """A row a pair: those that the file has of chunks that are whole, and what `make` makes of the others.

    The bits of a value depend on what it was computed with, so a chunk is computed whole, and again where it changes.
    """
    known = kept(file, dict, "its pairs are scored again")
    chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    keys = [_keys(whose, chunk) for chunk in chunks]
    there = [all(key in known for key in chunk) for chunk in keys]
    write_rows(file, (known[key] for chunk, whole in zip(keys, there, strict=True) if whole for key in chunk))
    with track(file.stem.replace("_", " "), sum(len(c) for c, whole in zip(chunks, there) if not whole)) as advance:
        for at, chunk in enumerate(chunks):
            if not there[at]:
                made = [{"key": key, **row} for key, row in zip(keys[at], make(chunk, advance), strict=True)]
                append_rows(file, made)
                known.update(zip(keys[at], made, strict=True))
    return [known[key] for chunk in keys for key in chunk]


def _keys(whose: str, chunk: Sequence[Pair]) -> list[str]:
    read = content_id([whose, [[p.id, p.chosen_critique, p.rejected_critique] for p in chunk]])
    return [content_id([read, p.id]) for p in chunk]


def _rewards(
    model: RewardModel, written: Mapping[str, Sequence[str]], pairs: Sequence[Pair], advance: Advance
) -> list[Row]:
    """The rewards of both responses, or why there are none. `written` are critiques that the model was trained with."""
    critiques = _critiques(model, written, pairs)
    fitting = [p for p in pairs if p.id in critiques and _fits(model, p, critiques[p.id])]
    given = [critiques[p.id] for p in fitting] if model.need else None
    scored = model.score_rows([_row(p) for p in fitting], critiques=given)
    rewards = {p.id: values for p, values in zip(fitting, scored, strict=True)}
    rows: list[Row] = []
    for pair in pairs:
        advance()
        row: Row = {"id": pair.id, "prompt_id": pair.prompt.id}
        if pair.id in rewards:
            row |= {"chosen": rewards[pair.id][0], "rejected": rewards[pair.id][1]}
        else:
            row["without"] = TOO_LONG if _has_critiques(model, pair) else NO_CRITIQUE
        rows.append(row)
    return rows


def _critiques(
    model: RewardModel, written: Mapping[str, Sequence[str]], pairs: Sequence[Pair]
) -> dict[str, Sequence[str] | None]:
    """What the model reads beside each pair's responses, by the pair's id; a pair is left out where it cannot be had.

    A model that reads its own critiques writes those of pairs that it was not trained on.
    """
    if model.need is None:
        return {p.id: None for p in pairs}
    if model.need.source == "teacher":
        return {p.id: [p.chosen_critique or "", p.rejected_critique or ""] for p in pairs if _has_critiques(model, p)}
    found: dict[str, Sequence[str] | None] = {p.id: written[p.id] for p in pairs if all(written.get(p.id, [""]))}
    missing = [p for p in pairs if p.id not in found and _fits(model, p, None)]
    found |= zip((p.id for p in missing), model.critiques([_row(p) for p in missing]) or (), strict=True)
    return found


def _has_critiques(model: RewardModel, pair: Pair) -> bool:
    if model.need is None or model.need.source == "self":
        return True
    return pair.chosen_critique is not None and pair.rejected_critique is not None


def _fits(model: RewardModel, pair: Pair, critiques: Sequence[str] | None) -> bool:
    return model.fits(*_row(pair), critiques)


def _row(pair: Pair) -> tuple[list[dict[str, str]], tuple[str, str]]:
    return pair.prompt.as_dicts(), (pair.chosen, pair.rejected)


# -- token by token ---------------------------------------------------------------------------------


def _token_values(model: RewardModel, pairs: Sequence[Pair], advance: Advance) -> list[Row]:
    """What the head says at the last token of each piece of both responses, and at the one before the first piece."""
    if reason := BEHIND_CRITIQUE if model.need else None if model.reads_anywhere else OWN_HEAD:
        return [{"id": p.id, "without": reason} for p in pairs]
    found: dict[str, list[Pieces]] = {}
    rows: dict[str, Row] = {}
    for pair in pairs:
        advance()
        try:
            found[pair.id] = [model.chat.pieces(pair.prompt.as_dicts(), text) for text in (pair.chosen, pair.rejected)]
        except ModelError as error:
            rows[pair.id] = {"id": pair.id, "without": str(error)}
    values = iter(model.values_encoded([pieces.chat for both in found.values() for pieces in both]))
    for at, both in found.items():
        rows[at] = {"id": at, **{side: _along(p, next(values)) for side, p in zip(("chosen", "rejected"), both)}}
    return [rows[p.id] for p in pairs]


def _along(pieces: Pieces, values: Sequence[float]) -> dict[str, Any]:
    """`ends` are characters of the response; `end` is the reward, at the last token of the template's own ending."""
    return {
        "opening": round(values[pieces.opening], DIGITS) if pieces.opening >= 0 else None,
        "ends": list(pieces.ends),
        "values": [round(values[at], DIGITS) for at in pieces.at],
        "end": round(values[-1], DIGITS),
    }
