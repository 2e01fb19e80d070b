"""The sections that have a method's name and that only it reads."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from reward_distiller.config.base import Section

KL_SOURCES = ("kl_teacher", "kl_store", "kl_top_logprobs")


class Refined(Section):
    """Refined pairs and generative regularization (paper, sections 3.2 to 3.4)."""

    scoring: Literal["self_calibrated", "pairwise"] = Field(
        "self_calibrated", description="how a refined response is scored: against its anchor, or side by side (B.1)"
    )
    tau_e: int = Field(0, ge=0, description="refined pairs need an edit distance above this (characters)")
    tau_s: float = Field(3.0, ge=0, description="refined pairs need a margin above this (points)")
    alpha: float = Field(0.2, ge=0, le=1, description="weight of the NLL of teacher responses")
    beta: float = Field(0.2, ge=0, le=1, description="weight of KL(teacher || student); 0 if there is no kl_teacher")
    kl_teacher: str | None = Field(None, description="folder or Hub id of a local LM of the student's vocabulary")
    kl_store: str | None = Field(None, description="file of the teacher's top-k log-probabilities, instead of its LM")
    kl_top_logprobs: int | None = Field(
        None, ge=1, description="instead of both: so many are asked for with the teacher's own responses"
    )
    kl_token_ids: bool = Field(False, description="as token ids, which vLLM gives; else their texts must tell them")

    @model_validator(mode="before")
    @classmethod
    def _no_teacher_no_kl(cls, data: Any) -> Any:
        if isinstance(data, dict) and "beta" not in data and not any(data.get(source) for source in KL_SOURCES):
            return {**data, "beta": 0.0}
        return data

    @model_validator(mode="after")
    def _weights(self) -> Refined:
        if self.alpha + self.beta >= 1:
            raise ValueError("alpha + beta must stay below 1: the margin loss weighs 1 - alpha - beta")
        named = [source for source in KL_SOURCES if getattr(self, source) is not None]
        if len(named) > 1:
            raise ValueError(f"name {' or '.join(named)}, not both")
        if self.beta > 0 and not named:
            raise ValueError("beta > 0 needs kl_teacher, a local LM of the student's vocabulary; or set beta: 0")
        return self

    @property
    def reference_fields(self) -> dict[str, Any]:
        """What the requests for the teacher's own responses hold beside their messages."""
        if self.kl_top_logprobs is None or not self.beta:
            return {}
        ids = {"return_tokens_as_token_ids": True} if self.kl_token_ids else {}
        return {"logprobs": True, "top_logprobs": self.kl_top_logprobs, **ids}


class RMDistiller(Refined):
    """Each part can be taken away, for an ablation."""

    loss: Literal["margin_regression", "margin_bradley_terry", "lsam", "bradley_terry"] = Field(
        "margin_regression", description="of pairs; anything but margin_regression is an ablation"
    )
    refine: bool = Field(True, description="Contrastive Refinement")


class EditAligned(Refined):
    """RM-Distiller's settings, and what is compared beside the ends of pairs."""

    tau_s: float = Field(0.0, ge=0, description="refined pairs need a margin above this (points)")
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the NLL, a nat or so beside margins of many points²")
    aligned_weight: float = Field(0.5, ge=0, lt=1, description="of the places along the edits in a refined pair's loss")
    annotated_weight: float = Field(0.3, gt=0, description="of a sampled or labeled pair; a refined one weighs 1")


class BCE(Section):
    """Binary cross-entropy on single responses."""

    alpha: float = Field(0.0, ge=0, lt=1, description="weight of the NLL of a right response of the teacher, beside it")


class SteerLM(Section):
    """Attributes that the head predicts (equation 7). `overall` is the annotation's own score and costs no call."""

    attributes: dict[str, float] = Field({"overall": 1.0}, description="attribute -> its weight in the reward")

    @field_validator("attributes")
    @classmethod
    def _named(cls, attributes: dict[str, float]) -> dict[str, float]:
        if not 1 <= len(attributes) <= 16 or not any(attributes.values()):
            raise ValueError("name 1 to 16 attributes, one of them at least with a weight that is not 0")
        for name in attributes:
            if not re.fullmatch(r"[a-z][a-z_]{0,39}", name):
                raise ValueError(f"{name!r} is no attribute: use lower-case letters and '_'")
        return attributes


class Critiques(Section):
    """Critiques that stand between a response and its reward. They follow `request` as a turn of their own."""

    request: str = Field("Critique your last reply.", min_length=1, description="the user's turn that asks for one")


class Cloud(Critiques):
    """Critique-out-loud: the reward model writes its critique itself."""

    max_tokens: int = Field(128, ge=1, description="of a critique that the reward model writes")
    sft_epochs: int = Field(1, ge=1, description="passes over the teacher's critiques, before the reward head")
    sft_learning_rate: float | None = Field(None, gt=0, description="unset: that of the training")
    lm_weight: float = Field(1.0, ge=0, description="weight of the NLL of critiques beside the pair loss")


class RMBoost(Section):
    """Rewriting of the teacher's own responses."""

    aspects: list[str] = Field(
        ["honesty", "truthfulness", "helpfulness", "relevance", "correctness", "completeness", "safety"],
        min_length=1,
        description="that rewritings are drawn from",
    )
    aspects_per_pair: int = Field(2, ge=1, description="drawn for each rewriting")
    better: float = Field(0.5, ge=0, le=1, description="share of rewritings that should be better; the rest is worse")

    @model_validator(mode="after")
    def _enough(self) -> RMBoost:
        if len(set(self.aspects)) < len(self.aspects) or not all(a.strip() for a in self.aspects):
            raise ValueError("an aspect stands there twice, or is empty")
        if self.aspects_per_pair > len(self.aspects):
            raise ValueError("aspects_per_pair is more than there are aspects")
        return self
