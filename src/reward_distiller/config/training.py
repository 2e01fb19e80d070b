"""The sections of the student, its training and its evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from reward_distiller.config.base import Section
from reward_distiller.config.data import TaskName


class Scratch(Section):
    """A tiny Qwen2 student with random weights, for machines where nothing can be downloaded."""

    tokenizer: str = Field(description="folder with a tokenizer's files; $REWARD_DISTILLER_DATA is filled in")
    hidden: int = Field(64, ge=8, description="size of the hidden states")
    layers: int = Field(2, ge=1, description="of the backbone")
    heads: int = Field(4, ge=1, description="of attention")


class Lora(Section):
    """Low-rank adapters on frozen weights (extra `lora`). The head is trained whole, and all is merged on export."""

    rank: int = Field(16, ge=1, description="of the adapters")
    alpha: int = Field(32, ge=1, description="the adapters' product is scaled by alpha / rank")
    modules: list[str] = Field([], description="linear layers that get one, by name; all of the backbone's if empty")
    quantize: bool = Field(False, description="QLoRA: the frozen weights in 4-bit NF4 (extra `qlora`)")


class Student(Section):
    """What the reward model is trained from: name exactly one of model and from_scratch."""

    model: str | None = Field(
        None, description="folder or Hub id of a causal LM, or of a reward model to train further; or `testbed`"
    )
    revision: str | None = Field(None, description="of a Hub model: branch, tag or commit")
    trust_remote_code: bool = Field(False, description="run code that comes with the model; off unless you say so")
    chat_template: str | None = Field(None, description="file with a Jinja template, for models that have none")
    from_scratch: Scratch | None = None
    lora: Lora | None = Field(None, description="train adapters instead of all weights")

    @model_validator(mode="after")
    def _one_student(self) -> Student:
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("name exactly one of model and from_scratch")
        return self


class Training(Section):
    """Table 8 of the paper where it speaks of it."""

    epochs: int = Field(1, ge=1, description="passes over the pairs")
    pairs_per_step: int = Field(16, ge=1, description="pairs in an optimizer step")
    learning_rate: float = Field(1e-5, gt=0, description="unset, 1e-3 for a student from scratch")
    warmup_ratio: float = Field(0.03, ge=0, le=1, description="share of the steps in which the rate rises")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients with a larger norm are scaled down to it")
    max_length: int = Field(1024, ge=8, description="tokens of prompt and response; longer ones are dropped, counted")
    layout: Literal["trees", "padded"] = Field("trees", description="each distinct token once, or padded rows")
    shuffle: Literal["prompts", "pairs"] = Field("prompts", description="what stays together in a step")
    tokens_per_batch: int = Field(16384, ge=8, description="slots computed at once: distinct tokens, or padded rows")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the layers; weights, heads and losses stay fp32")
    gradient_checkpointing: bool = Field(False, description="less memory for a third more time")
    center: float = Field(0.01, ge=0, description="weight of the squared sum of a pair's rewards; fixes the offset")
    validation: float = Field(0.0, ge=0, lt=1, description="share of the training prompts that choose the best weights")
    evaluate_every: int = Field(50, ge=1, description="steps between two looks at the validation prompts")
    checkpoint_every: int = Field(100, ge=0, description="steps that a killed training loses at most; 0: all of them")
    log_to: list[Literal["tensorboard", "trackio", "wandb"]] = Field([], description="besides training.jsonl")
    threads: int | None = Field(None, ge=1, description="CPU threads; the same number gives the same bits")
    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps; found out if unset")


class Evaluation(Section):
    """What a reward model is tested on at the end of its run."""

    held_out: float = Field(0.0, ge=0, lt=1, description="share of prompts kept out of training to test on")
    testbed_prompts: int = Field(0, ge=0, description="prompts in the testbed's easy / normal / hard sets")
    testbed_tasks: list[TaskName] | None = Field(None, min_length=1, description="what they ask for; unset: all tasks")
    max_length: int | None = Field(None, ge=8, description="tokens of what is tested; default: training.max_length")
    benchmarks: dict[str, str | None] = Field(
        {}, description="benchmark -> its file or folder, or nothing for the Hub's; $REWARD_DISTILLER_DATA is filled in"
    )
