"""The sections of reinforcement learning, and a whole config of it: `reward-distiller rl`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from reward_distiller.config.base import Section
from reward_distiller.config.data import DataSource, World
from reward_distiller.config.policy import Policy, exactly_one
from reward_distiller.config.pseudo_rewards import Labels
from reward_distiller.config.whole_run import Made, WholeRun

Algorithm = Literal["sft", "grpo", "dapo", "ppo"]
Over = Literal["none", "recorded", "batch", "group"]
TOTAL = "total"  # the name of all terms together, in logs and filters


class RewardSource(Section):
    """Where rewards come from: name exactly one."""

    model: str | None = Field(None, description="folder or Hub id of a reward model, scored in this process")
    made_by: Made | None = Field(None, description="a run whose reward model is taken")
    url: str | None = Field(None, description="a reward server: http://HOST/v1/rewards, or vLLM's .../classify")
    token_env: str | None = Field(None, description="environment variable with the server's bearer token")
    function: str | None = Field(
        None, description="module:name or file.py:name of f(prompt, responses, row) -> numbers: a rule"
    )

    @model_validator(mode="after")
    def _one(self) -> RewardSource:
        exactly_one(self, *self._sources())
        if self.token_env and not self.url:
            raise ValueError("token_env goes with url")
        return self

    def _sources(self) -> tuple[str, ...]:
        return ("model", "made_by", "url", "function")


class Ensemble(Section):
    """Several sources as one term."""

    members: dict[str, RewardSource] = Field(min_length=2, description="name -> source")
    choose: Literal["mean", "minimum", "bandit"] = Field(
        "mean", description="minimum: conservative; bandit: one member a step, learned (LASeR)"
    )
    exploration: float = Field(1.0, ge=0, description="bandit: weight of the upper confidence bound")


class RewardTerm(RewardSource):
    """One term of the reward. Where its scale is not that of the others, centre and scale it."""

    ensemble: Ensemble | None = None
    pattern: str | None = Field(None, description="regular expression: 1 for a response that it matches whole, else 0")
    overlong: int | None = Field(
        None, ge=1, description="tokens before the length limit from which on up to -1 is taken (DAPO, equation 13)"
    )
    length: float | None = Field(None, gt=0, description="minus the tokens of the response, in units of so many")
    repetition: int | None = Field(None, ge=1, description="minus the share of n-grams of so many words that repeat")
    labels: Labels | None = Field(None, description="the pseudo-reward itself, by consensus: given or by a judge")
    truth: Literal[True] | None = Field(None, description="1 for a response that the testbed knows to be right, else 0")
    weight: float = Field(1.0, description="in the sum of all terms; below 0 it is a cost")
    center: Over = Field("none", description="whose mean is taken away; recorded: that of the RM's training rewards")
    scale: Over = Field("none", description="whose standard deviation divides")

    def _sources(self) -> tuple[str, ...]:
        return (*super()._sources(), "ensemble", "pattern", "overlong", "length", "repetition", "labels", "truth")

    @model_validator(mode="after")
    def _recorded(self) -> RewardTerm:
        if "recorded" in (self.center, self.scale) and not (self.model or self.made_by):
            raise ValueError("only a reward model in this process has recorded its mean and standard deviation")
        return self

    @model_validator(mode="after")
    def _no_vote(self) -> RewardTerm:
        if self.labels is not None and self.labels.consensus == "vote":
            raise ValueError("labels: a vote is held before the training. Write consensus: given")
        return self


class Rollout(Section):
    """What is sampled at each step."""

    prompts_per_step: int = Field(256, ge=1, description="that responses are sampled to")
    responses_per_prompt: int | None = Field(None, ge=1, description="unset: 8, and 1 for ppo")
    max_prompt_length: int = Field(1024, ge=1, description="tokens; longer prompts are dropped and counted")
    max_response_length: int = Field(4096, ge=1, description="tokens, the end token included")
    temperature: float = Field(1.0, gt=0, description="of sampling")
    top_p: float = Field(1.0, gt=0, le=1, description="of sampling")


class Optimization(Section):
    """How a policy is trained, whatever the algorithm."""

    steps: int = Field(100, ge=1, description="rollouts; of sft, unset by epochs")
    updates_per_step: int = Field(4, ge=1, description="optimizer updates that one rollout is cut into")
    epochs_per_step: int = Field(1, ge=1, description="times that one rollout is gone through")
    learning_rate: float = Field(3e-6, gt=0, description="of AdamW")
    warmup_steps: int = Field(0, ge=0, description="updates in which the rate rises; it is constant then")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients with a larger norm are scaled down to it")
    rows_per_batch: int = Field(8, ge=1, description="responses computed at once; the most that divides an update")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the layers; weights and losses stay fp32")
    gradient_checkpointing: bool = Field(False, description="less memory for a third more time")
    checkpoint_every: int = Field(25, ge=1, description="steps that a killed training loses at most")
    log_to: list[Literal["tensorboard", "trackio", "wandb"]] = Field([], description="besides rl.jsonl")
    threads: int | None = Field(None, ge=1, description="CPU threads; the same number gives the same bits")
    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps; found out if unset")


class Sft(Section):
    """Supervised fine-tuning on demonstrations."""

    epochs: int = Field(1, ge=1, description="passes over the demonstrations")
    rows_per_step: int = Field(64, ge=1, description="demonstrations in an optimizer step")


class Grpo(Section):
    """Group Relative Policy Optimization (Shao et al., 2024)."""

    clip: float = Field(0.2, gt=0, description="how far a probability ratio may leave 1")
    kl: float = Field(0.0, ge=0, description="coefficient of the KL to the reference in the loss")
    scale: Literal["group", "batch", "none"] = Field("group", description="whose standard deviation divides advantages")


class DynamicSampling(Section):
    """Prompts whose responses all get about the same reward teach nothing, and are replaced (DAPO, section 3.2)."""

    on: str = Field(TOTAL, description="the total, or the name of a term")
    min_spread: float = Field(1e-6, ge=0, description="standard deviation in a group that it must have more than")
    max_rounds: int = Field(3, ge=1, description="times that is sampled for one step; then it takes what there is")


class Dapo(Section):
    """Decoupled clip and dynamic sampling policy optimization (Yu et al., 2025)."""

    clip_low: float = Field(0.2, gt=0, description="how far a probability ratio may fall below 1")
    clip_high: float = Field(0.28, gt=0, description="how far it may rise above 1")
    kl: float = Field(0.0, ge=0, description="coefficient of the KL to the reference in the loss")
    scale: Literal["group", "batch", "none"] = Field("group", description="whose standard deviation divides advantages")
    overlong: int | None = Field(
        None, ge=0, description="tokens of the soft punishment; 0: none; unset: a fifth of the length limit"
    )
    dynamic_sampling: DynamicSampling | None = DynamicSampling()


class Ppo(Section):
    """Proximal Policy Optimization (Schulman et al., 2017) with a critic of its own."""

    clip: float = Field(0.2, gt=0, description="how far a probability ratio may leave 1")
    value_clip: float = Field(0.5, gt=0, description="how far a value may move from the one before the update")
    kl: float = Field(0.05, ge=0, description="coefficient of the KL to the reference, token by token in the reward")
    gamma: float = Field(1.0, gt=0, le=1, description="discount of later rewards, token by token")
    lam: float = Field(0.95, ge=0, le=1, description="lambda of generalized advantage estimation")
    critic_learning_rate: float = Field(1e-5, gt=0, description="of the critic, which has weights of its own")
    critic_warmup: int = Field(0, ge=0, description="first steps in which only the critic is trained")


class Guards(Section):
    """What is looked at every so many steps on prompts of its own, to see a reward that is being hacked."""

    every: int = Field(25, ge=1, description="steps between two looks")
    prompts: int = Field(64, ge=1, description="of evaluation.prompts, the first so many")
    max_kl: float | None = Field(None, gt=0, description="nats a response")
    max_length_ratio: float | None = Field(None, gt=0, description="mean tokens, relative to the reference's")
    max_repetition: float | None = Field(None, ge=0, le=1, description="share of 4-grams of words that repeat")
    breach: Literal["warn", "stop"] = Field("warn", description="stop: the run ends with exit code 15")


class PolicyEvaluation(Section):
    """What a policy is looked at with when it is done, beside where it started."""

    prompts: DataSource | None = Field(None, description="rows with `prompt` that no training sees")


class Cluster(Section):
    """What `rl --emit` tells a distributed engine beside the rest; read nowhere else. Table 9 of the paper."""

    nodes: int = Field(2, ge=1, description="machines")
    gpus_per_node: int = Field(8, ge=1, description="GPUs of each")
    epochs: int = Field(10, ge=1, description="passes through the prompts; optimization.steps is not read")
    gen_prompts: int | None = Field(None, ge=1, description="prompts sampled at once; unset: of a step, of dapo twice")
    log_prob_rows: int = Field(16, ge=1, description="responses whose log-probabilities a GPU computes at once")
    tensor_parallel: int = Field(1, ge=1, description="GPUs of one engine that samples")


class RLConfig(WholeRun):
    """One run of recipe `rl`: a policy is trained, and looked at."""

    recipe: Literal["rl"] = Field(description="what kind of run this is")
    algorithm: Algorithm = Field(description="how the policy is trained")
    seed: int = Field(0, description="of all draws")
    output: str = Field(min_length=1, description="run folder")
    store: str | None = Field(None, description="folder of the runs of made_by, may be shared; default: in the output")
    policy: Policy
    demonstrations: DataSource | None = Field(None, description="sft: rows with `prompt` and `response`")
    prompts: list[DataSource] = Field([], description="grpo, dapo, ppo: rows with `prompt`; one source or a list")
    rewards: dict[str, RewardTerm] = Field({}, description="name -> term; the reward is their weighted sum")
    rollout: Rollout = Rollout()
    optimization: Optimization = Optimization()
    sft: Sft = Sft()
    grpo: Grpo = Grpo()
    dapo: Dapo = Dapo()
    ppo: Ppo = Ppo()
    guards: Guards = Guards()
    evaluation: PolicyEvaluation = PolicyEvaluation()
    cluster: Cluster = Cluster()
    testbed: World = World()

    @field_validator("prompts", mode="before")
    @classmethod
    def _one_source_is_a_list(cls, prompts: Any) -> Any:
        return [prompts] if isinstance(prompts, dict | DataSource) else prompts

    @field_validator("rewards")
    @classmethod
    def _names(cls, rewards: dict[str, RewardTerm]) -> dict[str, RewardTerm]:
        for name in rewards:
            if not name.isidentifier() or name == TOTAL:
                raise ValueError(f"{name!r} is no name for a term. Write letters, digits and _; {TOTAL} is their sum")
        return rewards

    @model_validator(mode="after")
    def _whole(self) -> RLConfig:
        if self.algorithm == "sft":
            if self.demonstrations is None:
                raise ValueError("algorithm sft needs `demonstrations`")
        elif not self.prompts or not self.rewards:
            raise ValueError(f"algorithm {self.algorithm} needs `prompts` and `rewards`")
        if self.responses_per_prompt < 2 and self.algorithm in ("grpo", "dapo"):
            raise ValueError(f"{self.algorithm} compares responses: rollout.responses_per_prompt is 2 or more")
        if (self.rollout.prompts_per_step * self.responses_per_prompt) % self.optimization.updates_per_step:
            raise ValueError("rollout.prompts_per_step times responses_per_prompt must divide into updates_per_step")
        on = self.dapo.dynamic_sampling.on if self.dapo.dynamic_sampling else TOTAL
        if self.algorithm == "dapo" and on not in (TOTAL, *self.rewards):
            raise ValueError(f"dapo.dynamic_sampling.on: {on!r} is no term of `rewards`")
        return self

    @property
    def title(self) -> str:
        return self.algorithm

    @property
    def computing(self) -> list[tuple[int | None, str | None]]:
        return [(self.optimization.threads, self.optimization.device)]

    @property
    def responses_per_prompt(self) -> int:
        return self.rollout.responses_per_prompt or (1 if self.algorithm == "ppo" else 8)
