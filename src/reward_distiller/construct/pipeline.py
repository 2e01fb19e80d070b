"""The steps in their order, for both scenarios: D_final = D_sample ∪ D_refine (paper, figure 2 and appendix A.1)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from reward_distiller.balance import Balance
from reward_distiller.config import Annotation, ChatModel
from reward_distiller.construct.annotate import agree, annotate
from reward_distiller.construct.attributes import add_attributes
from reward_distiller.construct.candidates import collect_candidates, draw_two
from reward_distiller.construct.critique import add_critiques
from reward_distiller.construct.filter import filter_edits, filter_margins
from reward_distiller.construct.reference import add_references, ask_references
from reward_distiller.construct.refine import refine
from reward_distiller.construct.rewrite import Rewriting, rewrite
from reward_distiller.construct.score import score_pairwise, score_self_calibrated
from reward_distiller.construct.scoring import Scoring
from reward_distiller.errors import CallsFailed, ConfigError
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.prompts import Templates

R = TypeVar("R")


@dataclass(frozen=True)
class Refinement:
    """How refined pairs are made: the scoring of section 3.3 or of the ablation B.1, and the thresholds of eq. 3."""

    scoring: Literal["self_calibrated", "pairwise"]
    tau_e: int
    tau_s: float


@dataclass(frozen=True)
class ConstructionPlan:
    """What a method wants: rewritten pairs instead of annotated ones, and what is added to pairs."""

    rewriting: Rewriting | None = None
    references: bool = False
    reference_fields: Mapping[str, Any] = field(default_factory=dict)  # of the requests for the teacher's responses
    refinement: Refinement | None = None
    critiques: bool = False
    attributes: tuple[str, ...] = ()

    def check(self, *, has_teacher: bool) -> None:
        """Raise ConfigError where a teacher would have to be asked, and scores are recorded."""
        if not has_teacher and self.refinement:
            raise ConfigError("refinement needs a `teacher`; with recorded scores set rm_distiller.refine=false")
        if not has_teacher and self.rewriting:
            raise ConfigError("rewriting needs a `teacher`: recorded scores come without one to ask")

    @property
    def draws_candidates(self) -> bool:
        return self.rewriting is None


class Construction:
    """One run of the steps. `balances` grows as they finish; the teacher is None where scores are recorded."""

    def __init__(
        self,
        engine: Engine,
        teacher: ChatModel | None,
        templates: Templates,
        seed: int,
        annotation: Annotation | None = None,
    ):
        annotation = annotation or Annotation()
        self.engine, self.teacher, self.templates, self.seed = engine, teacher, templates, seed
        self.scoring = Scoring(teacher, templates, engine, annotation) if teacher else None
        self.allowed_failures = annotation.allowed_failures
        self.balances: list[Balance] = []

    def unlabeled(
        self, prompts: Sequence[Prompt], candidates: Sequence[ChatModel], plan: ConstructionPlan
    ) -> list[Pair]:
        assert self.scoring is not None
        if plan.rewriting:
            return self._rewritten(prompts, plan.rewriting)
        pool = self._note(*collect_candidates(prompts, candidates, self.engine))
        drawn = self._note(*draw_two(prompts, pool, self.seed))
        sampled = self._note(*annotate(drawn, self.scoring))
        return self._complete(sampled, plan)

    def labeled(self, labeled: Sequence[Pair], plan: ConstructionPlan) -> list[Pair]:
        plan.check(has_teacher=self.teacher is not None)
        if plan.rewriting:
            return self._rewritten(distinct_prompts(labeled), plan.rewriting)
        kept = self._note(*agree(labeled, self.scoring, self.seed))
        return self._complete(kept, plan)

    def _rewritten(self, prompts: Sequence[Prompt], how: Rewriting) -> list[Pair]:
        assert self.teacher is not None
        own = self._note(*ask_references(prompts, self.teacher, self.engine))
        responses = [(prompt, own[prompt.id]) for prompt in prompts if prompt.id in own]
        return self._note(*rewrite(responses, self.teacher, self.templates, self.engine, self.seed, how))

    def _complete(self, pairs: list[Pair], plan: ConstructionPlan) -> list[Pair]:
        """What the plan adds to annotated pairs; the result is ordered by prompt, sampled before refined."""
        if self.teacher is None:
            return pairs  # critiques and attributes are read from the rows, or found missing when they are encoded
        if plan.references or plan.refinement:
            pairs = self._note(*add_references(pairs, self.teacher, self.engine, plan.reference_fields))
        if plan.refinement:
            pairs = self._refined(pairs, plan.refinement)
        if plan.critiques:
            pairs = self._note(*add_critiques(pairs, self.teacher, self.templates, self.engine))
        if plan.attributes:
            pairs = self._note(*add_attributes(pairs, plan.attributes, self.teacher, self.templates, self.engine))
        return pairs

    def _refined(self, pairs: list[Pair], how: Refinement) -> list[Pair]:
        """The pairs, each with its refined one behind it where that passed the filters."""
        assert self.teacher is not None
        assert self.scoring is not None
        refined = self._note(*refine(pairs, self.teacher, self.templates, self.engine))
        refined = self._note(*filter_edits(refined, how.tau_e))
        if how.scoring == "self_calibrated":
            scored = self._note(*score_self_calibrated(refined, self.scoring))
        else:
            scored = self._note(*score_pairwise(refined, self.scoring, self.seed))
        strong = self._note(*filter_margins(scored, how.tau_s))
        behind = {str(pair.provenance["refined_from"]): pair for pair in strong}
        return [q for p in pairs for q in (p, behind.get(p.id)) if q is not None]

    def _note(self, result: R, balance: Balance) -> R:
        self.balances.append(balance)
        check_failures(balance, self.allowed_failures)
        return result


def check_failures(balance: Balance, allowed: float) -> None:
    """Raises CallsFailed where a larger share than `allowed` of a step's calls has failed for good."""
    failed = balance.counts["failed"]
    if failed > allowed * balance.total:
        reasons = "; ".join(f"{n} x {r}" for r, n in balance.reasons["failed"].most_common(3))
        raise CallsFailed(
            f"step {balance.step}: {failed} of {balance.total} calls failed ({reasons}). Run the same command "
            "again to ask only these, or allow it: annotation.allowed_failures=SHARE"
        )


def distinct_prompts(pairs: Sequence[Pair]) -> list[Prompt]:
    return list({p.prompt.id: p.prompt for p in pairs}.values())


def split_prompts(
    pairs: Sequence[Pair], share: float, seed: int, purpose: str = "split"
) -> tuple[list[Pair], list[Pair]]:
    """(training pairs, held-out pairs): a prompt is on one side only; purpose, seed and prompt alone decide which."""
    held_out = {p.prompt.id: random.Random(f"{purpose}:{seed}:{p.prompt.id}").random() < share for p in pairs}
    return [p for p in pairs if not held_out[p.prompt.id]], [p for p in pairs if held_out[p.prompt.id]]
