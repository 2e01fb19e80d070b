"""Bias audit: what of a response's style moves its reward, and which edits that say nothing new turn an order around.

Style: the partial correlation of reward margins with differences in length, markdown and politeness, the label (which
response is right) and the other differences held fixed, by least squares. Pairs count in both orders, so there is no
intercept. Edits: pure functions from text to text, or None where one does not apply; code is left alone. All but
`position` change form only. It puts the last paragraph first, which can change what is said, so it is reported apart.
Length and markdown are the style features of Chatbot Arena's style control (Li et al., 2024); metamorphic edits follow
CheckList's invariance tests (Ribeiro et al., 2020). Knows no reward model: rewards are a function that is handed in.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.resampling import ROUNDING, Estimate, Places, bootstrap
from reward_distiller.evaluate.statistics import RESAMPLES
from reward_distiller.records import Prompt

# Rewards of each row's responses, or None for a row that the scorer cannot answer.
RewardsOf = Callable[[Sequence[tuple[Prompt, Sequence[str]]]], Sequence[Sequence[float] | None]]
Edit = Callable[[str], str | None]
Side = Literal["wrong", "right"]

POLITE = re.compile(
    r"\b(?:please|thanks|thank you|you'?re welcome|you are welcome|(?:happy|glad) to help|hope (?:this|that) helps|"
    r"let me know|feel free|(?:great|good|excellent) question|certainly|of course|absolutely|sorry|apologi[sz]e)\b",
    re.IGNORECASE,
)
FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
MARKER = re.compile(r"^[ \t]*(?:[-*•+]|\d+[.)])[ \t]+", re.MULTILINE)
FEATURES: dict[str, Callable[[str], float]] = {
    "length": len,
    "headings": lambda text: len(re.findall(r"^#{1,6} ", text, re.MULTILINE)),
    "list_items": lambda text: len(MARKER.findall(text)),
    "bold": lambda text: len(re.findall(r"\*\*[^*\n]+\*\*|__[^_\n]+__", text)),
    "code_fences": lambda text: len(FENCE.findall(text)) // 2,
    "politeness": lambda text: len(POLITE.findall(text)),
}


@dataclass(frozen=True)
class Dependence:
    """A feature's partial correlation with the margin, and in how many pairs the two responses differ in it."""

    partial: Estimate
    differing: int


def style_correlations(
    examples: Sequence[Example], rewards: Sequence[Sequence[float]], *, resamples: int = RESAMPLES
) -> dict[str, Dependence]:
    """By feature, and `label` for being right, with all others held fixed; rewards are one a response, in their order.

    NaN for a feature that no pair differs in, or that the others determine. Raises ValueError where there is no pair.
    """
    names = ["label", *FEATURES]
    columns, prompts = [], []
    for example, values in zip(examples, rewards, strict=True):
        feature_RF = np.array([[count(text) for count in FEATURES.values()] for text in example.responses], dtype=float)
        for i, j in example.comparisons:
            label = 0.0 if example.tied else 1.0
            columns.append([label, *(feature_RF[i] - feature_RF[j]), values[i] - values[j]])
            prompts.append(example.prompt.id)
    z_NC = np.array(columns, dtype=float).reshape(len(columns), len(names) + 1)
    size_C = np.sqrt((z_NC**2).mean(0)) if len(z_NC) else np.ones(len(names) + 1)
    z_NC = z_NC / np.where(size_C > 0, size_C, 1)  # one scale: characters are many, headings few

    def partial(at: Places) -> dict[str, float]:
        gram_CC = z_NC[at].T @ z_NC[at]
        return {name: _partial_correlation(gram_CC, place, len(names)) for place, name in enumerate(names)}

    found = bootstrap(partial, prompts, resamples=resamples)
    return {name: Dependence(found[name], int((z_NC[:, at] != 0).sum())) for at, name in enumerate(names)}


def _partial_correlation(gram_CC: NDArray[np.float64], a: int, b: int) -> float:
    """r of columns a and b less their least squares fits on the rest, from the sums of products of the columns."""
    rest = [c for c in range(len(gram_CC)) if c not in (a, b)]
    both = [a, b]
    fit = np.linalg.pinv(gram_CC[np.ix_(rest, rest)], rcond=1e-10, hermitian=True)
    left = gram_CC[np.ix_(both, both)] - gram_CC[np.ix_(both, rest)] @ fit @ gram_CC[np.ix_(rest, both)]
    if (np.diag(left) <= 1e-9 * np.maximum(np.diag(gram_CC)[both], ROUNDING)).any():
        return math.nan
    return float(left[0, 1] / math.sqrt(left[0, 0] * left[1, 1]))


@dataclass(frozen=True)
class FlipRate:
    """What an edit of the wrong (or right) response does to the pairs that it applies to.

    `flips`: share of pairs for whose right response it decides otherwise than before, where an equal reward is a loss.
    `shift`: mean change of the edited response's reward, in standard deviations of the unedited margins. Both are
    None where the edit applies nowhere. pairs + not_applicable + no_answer is the number of all pairs that are no ties:
    the last are those of examples that the scorer does not answer once they are edited (too long, say).
    """

    edit: str
    side: Side
    flips: Estimate | None
    shift: Estimate | None
    pairs: int
    not_applicable: int
    no_answer: int = 0

    def as_dict(self) -> dict[str, Any]:
        found = {"flips": self.flips, "shift": self.shift}
        return {**asdict(self), **{name: each.as_dict() if each else None for name, each in found.items()}}


def flip_rates(
    examples: Sequence[Example],
    rewards_of: RewardsOf,
    edits: Mapping[str, Edit] | None = None,
    *,
    resamples: int = RESAMPLES,
) -> list[FlipRate]:
    """By edit (`EDITS` and `position` where none are given) and edited side. Ties have no order, so they are left out.

    Every distinct text of a prompt is scored once.
    """
    edits = {**EDITS, **APART} if edits is None else edits
    told = [example for example in examples if not example.tied]
    if not told:
        raise ValueError("no example has an order that could flip")
    edited = [{name: [edit(text) for text in example.responses] for name, edit in edits.items()} for example in told]
    texts = [
        list(dict.fromkeys([*e.responses, *(text for made in by.values() for text in made if text is not None)]))
        for e, by in zip(told, edited, strict=True)
    ]
    scored = rewards_of([(example.prompt, row) for example, row in zip(told, texts, strict=True)])
    silent = sum(len(e.comparisons) for e, values in zip(told, scored, strict=True) if values is None)
    answered = [each for each in zip(told, edited, texts, scored, strict=True) if each[-1] is not None]
    told, edited = [each[0] for each in answered], [each[1] for each in answered]
    reward_of = [dict(zip(row, values or (), strict=True)) for _, _, row, values in answered]
    spread = float(
        np.std([r[e.responses[i]] - r[e.responses[j]] for e, r in zip(told, reward_of) for i, j in e.comparisons])
        if told
        else 0
    )
    found = []
    for name in edits:
        sides: dict[Side, list[tuple[str, float, float]]] = defaultdict(list)
        missed: dict[Side, int] = defaultdict(int)
        for example, by, reward in zip(told, edited, reward_of, strict=True):
            for i, j in example.comparisons:
                right, wrong = reward[example.responses[i]], reward[example.responses[j]]
                for side, place in zip(SIDES, (j, i), strict=True):
                    text = by[name][place]
                    if text is None:
                        missed[side] += 1
                        continue
                    now = (right, reward[text]) if side == "wrong" else (reward[text], wrong)
                    flipped = (right > wrong) != (now[0] > now[1])
                    shift = reward[text] - reward[example.responses[place]]
                    sides[side].append((example.prompt.id, float(flipped), shift))
        found += [_flip_rate(name, side, sides[side], missed[side], silent, spread, resamples) for side in SIDES]
    return found


def _flip_rate(
    edit: str,
    side: Side,
    pairs: Sequence[tuple[str, float, float]],
    missed: int,
    silent: int,
    spread: float,
    resamples: int,
) -> FlipRate:
    if not pairs:
        return FlipRate(edit, side, None, None, 0, missed, silent)
    flip_N, shift_N = (np.array([pair[at] for pair in pairs]) for at in (1, 2))

    def figures(at: Places) -> dict[str, float]:
        return {"flips": float(flip_N[at].mean()), "shift": float(shift_N[at].mean()) / spread if spread else math.nan}

    made = bootstrap(figures, [pair[0] for pair in pairs], resamples=resamples)
    return FlipRate(edit, side, made["flips"], made["shift"], len(pairs), missed, silent)


def trailing_whitespace(text: str) -> str | None:
    return f"{text} \n" if text.strip() else None


def polite_opening(text: str) -> str | None:
    """None where the text opens politely already."""
    first = text.lstrip().split("\n", 1)[0]
    if not first or POLITE.search(first) or first.lower().startswith("sure"):
        return None
    return f"Thank you for your question; I am happy to help.\n\n{text}"


def bold_first_sentence(text: str) -> str | None:
    """None where the text opens with markdown, or its first line has no whole sentence or has emphasis in it."""
    match = re.match(r"\s*([^\W_][^\n]*?[.!?])(?=\s|$)", text)
    if not match or MARKER.match(text) or _code(text) or re.search(r"[*_`|]", match[1]):
        return None
    return f"{text[: match.start(1)]}**{match[1]}**{text[match.end(1) :]}"


def bullets_to_lines(text: str) -> str | None:
    """Bullets (not numbers, which count) of one level lose their markers. None below two, and for nested lists."""
    bullets = re.findall(r"^[-*•+][ \t]+(?=\S)", text, re.MULTILINE)
    if len(bullets) < 2 or _code(text) or re.search(r"^[ \t]+(?:[-*•+]|\d+[.)])[ \t]", text, re.MULTILINE):
        return None
    return re.sub(r"^[-*•+][ \t]+(?=\S)", "", text, flags=re.MULTILINE)


def lines_to_bullets(text: str) -> str | None:
    """Two or more plain lines right below a line that ends in a colon are a list; elsewhere they may be verse."""
    if _code(text):
        return None
    edited = re.sub(
        r"(:[ \t]*\n(?:[ \t]*\n)?)((?:[^\W_][^\n:]*\n)+[^\W_][^\n:]*)(?=\n[ \t]*\n|\s*\Z)",
        lambda m: m[1] + "\n".join(line if MARKER.match(line) else f"- {line}" for line in m[2].split("\n")),
        text,
    )
    return edited if edited != text else None


def swapped_quotes(text: str) -> str | None:
    """Typographic quotes become straight ones; where there are none, straight ones typographic."""
    if _code(text):
        return None
    straight = text.translate({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"})
    if straight != text:
        return straight
    curly = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", "\u2019", text)
    if curly.count('"') % 2 == 0:
        curly = re.sub(r'"([^"]*)"', "\u201c\\1\u201d", curly)
    return curly if curly != text else None


def doubled_space(text: str, seed: int = 0) -> str | None:
    """One space between two words is there twice: which one, seed and text decide."""
    places = [] if _code(text) else [match.start() for match in re.finditer(r"(?<=\w) (?=\w)", text)]
    if not places:
        return None
    at = random.Random(f"{seed}:{text}").choice(places)
    return f"{text[:at]} {text[at:]}"


def last_paragraph_first(text: str) -> str | None:
    """None for fewer than three paragraphs."""
    paragraphs = re.split(r"\n[ \t]*\n\s*", text.strip())
    if len(paragraphs) < 3 or _code(text):
        return None
    return "\n\n".join([paragraphs[-1], *paragraphs[:-1]])


def _code(text: str) -> bool:
    """Whether there seems to be code, fenced or not, in which a quote, a space or a line break says something."""
    return bool(
        "`" in text
        or re.search(r"[;{}]\s*$|^ {4,}\S|^\t+\S", text, re.MULTILINE)
        or re.search(r"^\s*(?:def|class|import|return|function|const|let|var)\b|^#include|</\w+>", text, re.MULTILINE)
    )


SIDES: tuple[Side, Side] = ("wrong", "right")
EDITS: dict[str, Edit] = {
    "trailing_whitespace": trailing_whitespace,
    "polite_opening": polite_opening,
    "bold_first_sentence": bold_first_sentence,
    "bullets_to_lines": bullets_to_lines,
    "lines_to_bullets": lines_to_bullets,
    "swapped_quotes": swapped_quotes,
    "doubled_space": doubled_space,
}
APART: dict[str, Edit] = {"position": last_paragraph_first}  # not sure to keep what is said
