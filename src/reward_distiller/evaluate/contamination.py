"""Contamination: training prompts that a benchmark asks as well, word for word or nearly so.

Equal prompts are found by their words: case, punctuation, white space and the Unicode form (NFKC) count for nothing.
Near-duplicates are candidates of MinHash LSH (Broder, 1997; the library datasketch), each then verified on the very
shingles, so nothing is reported by chance. Shingles are five words, as is common (Lee et al., 2022, Deduplicating
Training Data Makes Language Models Better), for long prompts, and five characters for those of fewer than 64 words,
where one changed word would spoil most five-word runs; a prompt of under five characters is its own shingle. What is
verified is Jaccard's index, or containment: the share of the benchmark prompt's shingles that the training prompt has.
LSH looks for Jaccard, so a prompt that is only a small part of a far longer one is not found. A run of five words in
many distinct prompts of one side is a template's and counts for nothing. Knows texts and ids, and not what they are
used for.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from reward_distiller.records import Prompt

GRAM = 5  # words, or characters, in a shingle
LONG = 64  # words: from here on three changed words leave a five-word Jaccard index of 0.6
CANDIDATE = 0.5  # LSH's own threshold, below those that verify, since it finds by chance
PERMUTATIONS = 128  # the estimate of a Jaccard index is then within 0.09, mostly
SHORT_JACCARD = 0.7  # five characters: one word changed in a dozen is above, two requests of one form below
LONG_JACCARD = 0.5  # five words: two texts that share half of them are not alike by chance
CONTAINED = 0.9
TEMPLATE = 30  # distinct prompts of one side: more rewordings of one prompt than a benchmark has
# Characters of scripts without spaces are words of their own.
UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORDS = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")

Kind = Literal["exact", "near"]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Match:
    """A training prompt and a benchmark's, by the ids given. Where `kind` is exact, both figures are 1."""

    training: str
    benchmark: str
    kind: Kind
    jaccard: float
    contained: float


@dataclass
class Contamination:
    """Matches in the order of the training prompts, then of the benchmark's, and what was looked at.

    `candidates` are distinct texts that LSH put forward; `templates` the five-word runs that count for nothing.
    """

    matches: list[Match] = field(default_factory=list)
    training: int = 0
    benchmark: int = 0
    empty: int = 0
    candidates: int = 0
    templates: int = 0

    @property
    def training_hit(self) -> int:
        """Training prompts with a match."""
        return len({match.training for match in self.matches})

    @property
    def benchmark_hit(self) -> int:
        """The benchmark's prompts with a match."""
        return len({match.benchmark for match in self.matches})

    def counts(self) -> dict[str, int]:
        kinds = Counter(match.kind for match in self.matches)
        return {
            "training": self.training,
            "benchmark": self.benchmark,
            "empty": self.empty,
            "candidates": self.candidates,
            "templates": self.templates,
            "exact": kinds["exact"],
            "near": kinds["near"],
            "training_hit": self.training_hit,
            "benchmark_hit": self.benchmark_hit,
        }


def text_of(prompt: Prompt) -> str:
    """What the user says in all turns: system prompts are shared by many, and answers are not asked."""
    return "\n".join(message.content for message in prompt.messages if message.role == "user")


def contamination(
    training: Sequence[tuple[str, str]], benchmark: Sequence[tuple[str, str]], *, template: int = TEMPLATE
) -> Contamination:
    """Of (id, text) on both sides; ids are distinct on each. The same input gives the same output.

    Time grows with the text, and with the candidates. Texts without a word or sign are counted as empty and left out.
    Raises ValueError for an id that is given twice.
    """
    for side in (training, benchmark):
        if len({name for name, _ in side}) < len(side):
            raise ValueError("an id is given twice")
    found = Contamination(training=len(training), benchmark=len(benchmark))
    ours, theirs = _by_words(training, found), _by_words(benchmark, found)
    templates = _templates(ours, theirs, template)
    found.templates = len(templates)
    left_of = {words: _without(words, templates) for words in theirs}
    indexes = {of_words: _Index(of_words) for of_words in (False, True)}
    for words, left in left_of.items():
        if left:
            indexes[len(left) >= LONG].insert(words, left)
    pairs: list[tuple[int, int, Match]] = []
    at_training, at_benchmark = ({name: at for at, (name, _) in enumerate(side)} for side in (training, benchmark))
    for words, names in ours.items():
        like: dict[Words, tuple[Kind, float, float]] = {words: ("exact", 1.0, 1.0)} if words in theirs else {}
        left = _without(words, templates)
        for of_words, index in indexes.items():
            for other in index.query(left) if _comparable(left, of_words) else []:
                if other == words:
                    continue
                found.candidates += 1
                jaccard, contained = _verify(left, left_of[other], of_words)
                if jaccard >= (LONG_JACCARD if of_words else SHORT_JACCARD) or contained >= CONTAINED:
                    like[other] = ("near", jaccard, contained)
        for other, (kind, jaccard, contained) in like.items():
            for ours_id in names:
                for theirs_id in theirs[other]:
                    match = Match(ours_id, theirs_id, kind, round(jaccard, 4), round(contained, 4))
                    pairs.append((at_training[ours_id], at_benchmark[theirs_id], match))
    found.matches = [match for *_, match in sorted(pairs, key=lambda each: each[:2])]
    return found


Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """Its words alone, casefolded; a text of signs only is one word."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(WORDS.findall(plain)) or tuple([" ".join(plain.split())] if plain.strip() else [])


def _by_words(side: Sequence[tuple[str, str]], found: Contamination) -> dict[Words, list[str]]:
    ids: dict[Words, list[str]] = defaultdict(list)
    for name, text in side:
        words = words_of(text)
        if words:
            ids[words].append(name)
        else:
            found.empty += 1
    return dict(ids)


def _grams(words: Words) -> set[Words]:
    return {words[at : at + GRAM] for at in range(len(words) - GRAM + 1)}


def _templates(ours: dict[Words, list[str]], theirs: dict[Words, list[str]], limit: int) -> set[Words]:
    """Five-word runs of the benchmark that stand in more than `limit` distinct prompts of either side."""
    in_theirs = Counter(gram for words in theirs for gram in _grams(words))
    in_ours = Counter(gram for words in ours for gram in _grams(words) if gram in in_theirs)
    return {gram for gram, count in in_theirs.items() if max(count, in_ours[gram]) > limit}


def _without(words: Words, templates: set[Words]) -> Words:
    """The words that no template's run covers."""
    covered = [False] * len(words)
    for at in range(len(words) - GRAM + 1) if templates else ():
        if words[at : at + GRAM] in templates:
            covered[at : at + GRAM] = [True] * GRAM
    return tuple(word for word, hidden in zip(words, covered, strict=True) if not hidden) if any(covered) else words


def _comparable(left: Words, of_words: bool) -> bool:
    """Whether it is long enough for the index of long prompts, or short enough for that of short ones.

    Half as many words, and twice as many: beyond, hardly a Jaccard index reaches the threshold.
    """
    return bool(left) and (len(left) >= LONG * CANDIDATE if of_words else len(left) <= LONG / CANDIDATE)


class _Index:
    """MinHash LSH of the benchmark's prompts, by five-word or five-character shingles."""

    def __init__(self, of_words: bool):
        self.of_words, self.texts = of_words, list[Words]()
        self.lsh = MinHashLSH(threshold=CANDIDATE, num_perm=PERMUTATIONS)
        self.empty = MinHash(num_perm=PERMUTATIONS, hashfunc=int)  # shingles come hashed

    def _sketch(self, left: Words) -> MinHash:
        sketch = self.empty.copy()
        sketch.update_batch((_hashes(left, self.of_words) >> np.uint64(32)).tolist())
        return sketch

    def insert(self, words: Words, left: Words) -> None:
        self.lsh.insert(len(self.texts), self._sketch(left))
        self.texts.append(words)

    def query(self, left: Words) -> list[Words]:
        return [self.texts[at] for at in sorted(self.lsh.query(self._sketch(left)))] if self.texts else []


def _hashes(left: Words, of_words: bool) -> Hashes:
    """64-bit hashes of the distinct shingles, all at once: datasketch alone would hash them one by one."""
    if of_words:
        unit_N = np.array([_word_hash(word) for word in left], dtype=np.uint64)
    else:
        unit_N = np.frombuffer(" ".join(left).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    size = min(GRAM, len(unit_N))
    hash_N = np.zeros(len(unit_N) - size + 1, dtype=np.uint64)
    for at in range(size):
        hash_N = _mixed(hash_N + unit_N[at : at + len(hash_N)])
    return np.unique(hash_N)


def _mixed(hash_N: Hashes) -> Hashes:
    """A step of splitmix64 (Steele et al., 2014), without which neighbouring letters would have neighbouring hashes."""
    hash_N = hash_N * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0xD1B54A32D192ED03)
    hash_N = (hash_N ^ (hash_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (hash_N ^ (hash_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)


@lru_cache(maxsize=500_000)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _verify(ours: Words, theirs: Words, of_words: bool) -> tuple[float, float]:
    """Jaccard's index and containment of the shingles themselves, not of their hashes."""
    a, b = _shingles(ours, of_words), _shingles(theirs, of_words)
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared), shared / len(b)


@lru_cache(maxsize=20_000)  # one benchmark prompt is verified against many
def _shingles(left: Words, of_words: bool) -> frozenset[Words] | frozenset[str]:
    if of_words:
        return frozenset(_grams(left) or {left})
    text = " ".join(left)
    return frozenset({text[at : at + GRAM] for at in range(max(1, len(text) - GRAM + 1))})
