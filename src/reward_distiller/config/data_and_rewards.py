"""The config of recipe `data_and_rewards` (arXiv 2502.19557), and the runs that it is made of.

    teacher's responses, labeled ─► warm-up (SFT on the good ones) ─► student's responses, labeled
    ─► reward model on both ─► reinforcement learning ─► (another round: the student's responses, labeled ─► ...)

Every arrow is a run of its own in the store, so that variants share what they have in common.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from reward_distiller.config.base import Section
from reward_distiller.config.data import DataSource, World
from reward_distiller.config.models import Caps, ChatModel
from reward_distiller.config.policy import Policy
from reward_distiller.config.pseudo_rewards import Demonstrations, Labels
from reward_distiller.config.rl import Dapo, Grpo, Guards, Optimization, PolicyEvaluation, Ppo, RewardTerm, Rollout, Sft
from reward_distiller.config.run import Annotation, Pairing
from reward_distiller.config.training import Evaluation, Student, Training
from reward_distiller.config.whole_run import Made, WholeRun

Loss = Literal["bce", "bradley_terry", "margin_regression"]
# The first runs; those of a round are named with its number. What the teacher answers to the test is nobody's data.
TEACHER, TEACHER_TEST, WARM_UP = "teacher", "teacher_test", "warm_up"


class Samples(Section):
    """Responses to each prompt. 10 of the teacher and 30 of the student are the paper's."""

    teacher: int = Field(10, ge=1, description="responses of the teacher to each prompt")
    student: int = Field(30, ge=1, description="responses of the student to each prompt")
    teacher_temperatures: list[float] = Field([0.7, 1.0], min_length=1, description="taken in turn")
    student_temperatures: list[float] = Field([1.0], min_length=1, description="taken in turn")


class WarmUp(Section):
    """SFT on the teacher's responses with a high pseudo-reward."""

    demonstrations: Demonstrations = Demonstrations()
    sft: Sft = Sft()
    optimization: Optimization = Optimization()


class LearnedReward(Section):
    """The reward model: a classifier of its own, trained on labeled responses."""

    data: Literal["both", "teacher", "student"] = Field("both", description="whose responses it is trained on")
    loss: Loss | None = Field(None, description="unset: bce where no judge is, and pairs by bradley_terry where one is")
    alpha: float = Field(0.0, ge=0, lt=1, description="weight of the NLL of a right response of the teacher, beside it")
    pairs_per_prompt: int = Field(8, ge=1, description="of different rewards; bce reads single responses")
    min_margin: float = Field(0.0, ge=0, le=1, description="by which the rewards of a pair differ at least")
    pairing: Pairing = Field("drawn", description="which of them: drawn, or those that differ in the fewest words")
    student: Student | None = Field(None, description="what it is trained from; unset: the model of the policy")
    training: Training = Training()
    evaluation: Evaluation = Evaluation(held_out=0.05)


class Reinforcement(Section):
    """Reinforcement learning guided by the reward; `rl`'s settings."""

    algorithm: Literal["grpo", "dapo", "ppo"] = Field("ppo", description="how the policy is trained")
    rewards: dict[str, RewardTerm] = Field({}, description="further terms, beside the one that `reward` says")
    optimization: Optimization = Optimization()
    grpo: Grpo = Grpo()
    dapo: Dapo = Dapo()
    ppo: Ppo = Ppo()
    guards: Guards = Guards()


class DataAndRewards(WholeRun):
    """One run of recipe `data_and_rewards`."""

    recipe: Literal["data_and_rewards"] = Field(description="what kind of run this is")
    seed: int = Field(0, description="of all draws, in all runs that it is made of")
    output: str = Field(min_length=1, description="run folder")
    store: str | None = Field(None, description="folder of the runs that it is made of; default: in the output")
    prompts: DataSource = Field(
        description="rows with `prompt`, with `open_ended: true` where no answer can be checked"
    )
    teacher: ChatModel
    student: Policy
    samples: Samples = Samples()
    labels: Labels = Labels()
    annotation: Annotation = Annotation()
    budget: Caps = Caps()
    warm_up: WarmUp = WarmUp()
    reward_model: LearnedReward = LearnedReward()
    reward: Literal["model", "labels", "judge", "truth", "terms", "none"] = Field(
        "model",
        description="what is maximised: the reward model; the pseudo-rewards themselves; the judge's scores of all "
        "responses; the testbed's truth, an upper bound; terms: `reinforcement.rewards` alone; none: SFT is all",
    )
    reinforcement: Reinforcement = Reinforcement()
    rounds: int = Field(1, ge=1, description="times that the student is sampled, its reward model made, and trained")
    rollout: Rollout = Rollout()
    evaluation: PolicyEvaluation = PolicyEvaluation()
    test_teacher: bool = Field(
        False, description="ask the teacher the evaluation prompts, too: what there is to surpass"
    )
    testbed: World = World()

    @model_validator(mode="after")
    def _whole(self) -> DataAndRewards:
        if self.labels.consensus == "given" or self.labels.judges_all:
            raise ValueError("labels: the vote is the teacher's; leave out consensus and judges_all")
        if self.reward == "judge" and self.labels.judge is None:
            raise ValueError("reward: judge needs `labels.judge`")
        if self.student.made_by is not None:
            raise ValueError("student: name a model; the warm-up trains it")
        if self.test_teacher and self.evaluation.prompts is None:
            raise ValueError("test_teacher needs `evaluation.prompts`")
        if self.reward == "terms" and not self.reinforcement.rewards:
            raise ValueError("reward: terms needs `reinforcement.rewards`")
        if self.reward == "none" and self.rounds > 1:
            raise ValueError("reward: none has no rounds")
        return self

    @property
    def title(self) -> str:
        return f"{self.recipe} by {self.reward}"

    @property
    def computing(self) -> list[tuple[int | None, str | None]]:
        takes = (self.warm_up.optimization, self.reward_model.training, self.reinforcement.optimization)
        return [(each.threads, each.device) for each in takes]

    @property
    def loss(self) -> Loss:
        return self.reward_model.loss or ("bce" if self.labels.judge is None else "bradley_terry")

    @property
    def made(self) -> dict[str, Made]:
        """The runs that it is made of, in their order, by name; the last one's policy is what comes out."""
        return {name: Made(run=run) for name, run in self._runs().items()}

    def _runs(self) -> dict[str, dict[str, Any]]:
        runs = {TEACHER: self._teacher_responses(self.prompts)}
        if self.test_teacher and self.evaluation.prompts is not None:
            runs[TEACHER_TEST] = self._teacher_responses(self.evaluation.prompts)
        runs[WARM_UP] = policy = self._warm_up(runs[TEACHER])
        if self.reward == "none":
            return runs
        labeled = [runs[TEACHER]] if self.reward_model.data != "student" else []
        for number in range(1, self.rounds + 1):
            terms: dict[str, Any] = {name: _dump(term) for name, term in self.reinforcement.rewards.items()}
            if self.reward == "model":
                if self.reward_model.data != "teacher":
                    runs[f"student_{number}"] = self._student_responses(runs[TEACHER], policy)
                    labeled = [*labeled, runs[f"student_{number}"]]
                runs[f"reward_model_{number}"] = model = self._reward_model(labeled)
                terms["model"] = {"made_by": {"run": model}}
            elif self.reward == "truth":
                terms["truth"] = {"truth": True}
            elif self.reward in ("labels", "judge"):
                terms["labels"] = {"labels": self._by_consensus(judges_all=self.reward == "judge")}
            runs[f"policy_{number}"] = policy = self._policy(runs[TEACHER], policy, terms)
        return runs

    def _common(self, recipe: str) -> dict[str, Any]:
        return {"recipe": recipe, "seed": self.seed, "output": "made", "testbed": _dump(self.testbed)}

    def _teacher_responses(self, prompts: DataSource) -> dict[str, Any]:
        return self._common("pseudo_rewards") | {
            "prompts": _dump(prompts),
            "teacher": _dump(self.teacher),
            "samples": self.samples.teacher,
            "temperatures": self.samples.teacher_temperatures,
            "labels": _dump(self.labels),
            "demonstrations": _dump(self.warm_up.demonstrations),
            "annotation": _dump(self.annotation),
            "budget": _dump(self.budget),
        }

    def _warm_up(self, teacher: dict[str, Any]) -> dict[str, Any]:
        return self._common("rl") | {
            "algorithm": "sft",
            "policy": _dump(self.student),
            "demonstrations": {"made_by": {"run": teacher}, "run_file": "demonstrations.jsonl"},
            "rollout": _dump(self.rollout),
            "optimization": _dump(self.warm_up.optimization),
            "sft": _dump(self.warm_up.sft),
            "evaluation": _dump(self.evaluation),
        }

    def _student_responses(self, teacher: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
        return self._common("pseudo_rewards") | {
            "prompts": {"made_by": {"run": teacher}, "run_file": "prompts.jsonl"},
            "policy": {"made_by": {"run": policy}},
            "samples": self.samples.student,
            "temperatures": self.samples.student_temperatures,
            "max_prompt_length": self.rollout.max_prompt_length,
            "max_response_length": self.rollout.max_response_length,
            "labels": self._by_consensus(),
            "annotation": _dump(self.annotation),
            "budget": _dump(self.budget),
            "threads": self.reinforcement.optimization.threads,
            "device": self.reinforcement.optimization.device,
        }

    def _reward_model(self, labeled: list[dict[str, Any]]) -> dict[str, Any]:
        given = self.reward_model
        student = given.student or Student(
            model=self.student.model,
            revision=self.student.revision,
            trust_remote_code=self.student.trust_remote_code,
            chat_template=self.student.chat_template,
        )
        return self._common("reward_model") | {
            **self._method(),
            "scenario": "responses",
            "responses": [{"made_by": {"run": run}, "run_file": "responses.jsonl"} for run in labeled],
            "pairs_per_prompt": given.pairs_per_prompt,
            "min_margin": given.min_margin,
            "pairing": given.pairing,
            "student": _dump(student),
            "training": _dump(given.training),
            "evaluation": _dump(given.evaluation),
        }

    def _method(self) -> dict[str, Any]:
        alpha = self.reward_model.alpha
        if self.loss == "bce":
            return {"method": "bce", "bce": {"alpha": alpha}}
        pairs = {"loss": self.loss, "refine": False, "alpha": alpha, "beta": 0.0}
        return {"method": "rm_distiller", "rm_distiller": pairs}

    def _policy(self, teacher: dict[str, Any], policy: dict[str, Any], terms: dict[str, Any]) -> dict[str, Any]:
        return self._common("rl") | {
            **_dump(self.reinforcement),
            "policy": {"made_by": {"run": policy}},
            "prompts": [{"made_by": {"run": teacher}, "run_file": "prompts.jsonl"}],
            "rewards": terms,
            "rollout": _dump(self.rollout),
            "evaluation": _dump(self.evaluation),
        }

    def _by_consensus(self, judges_all: bool = False) -> dict[str, Any]:
        """How what is not the teacher's is labeled: by the consensus that the teacher's responses had."""
        return _dump(self.labels) | {"consensus": "given", "judges_all": judges_all}


def _dump(section: Section) -> dict[str, Any]:
    return section.model_dump(mode="json")
