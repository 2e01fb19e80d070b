"""The same training as options of verl (0.9): Hydra overrides, so that verl refuses what is none of its keys.

The reward is ours: reward.py sums the terms for one response, and says each beside the sum. The defaults are those of
the paper's table 9 (appendix A.1). Not read: optimization.steps (verl counts epochs), guards and evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reward_distiller.config import TOTAL, RLConfig
from reward_distiller.errors import ConfigError
from reward_distiller.rl.emit.engine import Emitted, script, served, url_variable

Options = dict[str, Any]  # verl's key -> value; a leading + is for what verl reads and its schema has not
SMALLEST_SPREAD = 1e-6  # verl's own filter wants any spread at all

REWARD = '''"""verl's reward function: the terms of rewards.json, summed. Made by `reward-distiller rl --emit verl`."""

from pathlib import Path

from reward_distiller.rl.emit.verl_reward import score_function

compute_score = score_function(Path(__file__).with_name("rewards.json"))
'''


def emitted(config: RLConfig, policy: str) -> Emitted:
    if config.algorithm == "sft":
        options = _sft(config, policy)
        nodes = [f"--nnodes={config.cluster.nodes}", f"--nproc-per-node={config.cluster.gpus_per_node}"]
        command = ["torchrun", *nodes, "-m", "verl.trainer.sft_trainer"]
        return Emitted({"launch.sh": script(config, "verl", command, overrides(options))})
    options = _common(config, policy) | {"ppo": _ppo, "grpo": _grpo, "dapo": _dapo}[config.algorithm](config)
    command = ["python3", "-m", "verl.trainer.main_ppo"]
    terms = {name: term.model_dump(mode="json", exclude_defaults=True) for name, term in config.rewards.items()}
    for name in served(config):
        terms[name] = {k: v for k, v in terms[name].items() if k != "model"}
        terms[name]["url_from"] = url_variable(config, name)
    for term in terms.values():
        if term.get("function", "").rpartition(":")[0].endswith(".py"):
            term["function"] = str(Path(term["function"]).absolute())  # the launch script runs beside itself
    rewards = {"limit": config.rollout.max_response_length, "terms": terms}
    return Emitted(
        {
            "launch.sh": script(config, "verl", command, overrides(options)),
            "reward.py": REWARD,
            "rewards.json": json.dumps(rewards, indent=2) + "\n",
        }
    )


def overrides(options: Options) -> list[str]:
    """Hydra's key=value, texts in its quotes."""
    return [f"{key}={_value(value)}" for key, value in options.items()]


def _value(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if _needs_quotes(value) else value
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value)


def _needs_quotes(text: str) -> bool:
    return not text or not all(c.isalnum() or c in "_-./" for c in text)


def _common(config: RLConfig, policy: str) -> Options:
    own, rollout, cluster = config.optimization, config.rollout, config.cluster
    prompts = rollout.prompts_per_step
    return {
        "data.train_files": "data/train.parquet",
        "data.val_files": "data/train.parquet",
        "data.gen_batch_size": cluster.gen_prompts or prompts,
        "data.train_batch_size": prompts,
        "data.max_prompt_length": rollout.max_prompt_length,
        "data.max_response_length": rollout.max_response_length,
        "data.filter_overlong_prompts": True,
        "data.seed": config.seed,
        "data.trust_remote_code": config.policy.trust_remote_code,
        "actor_rollout_ref.model.path": policy,
        "actor_rollout_ref.model.trust_remote_code": config.policy.trust_remote_code,
        "actor_rollout_ref.model.enable_gradient_checkpointing": own.gradient_checkpointing,
        "actor_rollout_ref.actor.optim.lr": own.learning_rate,
        "actor_rollout_ref.actor.optim.lr_warmup_steps": own.warmup_steps,
        "actor_rollout_ref.actor.optim.weight_decay": own.weight_decay,
        "actor_rollout_ref.actor.grad_clip": own.max_grad_norm,
        "actor_rollout_ref.actor.ppo_mini_batch_size": _mini_batch(config),
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": own.rows_per_batch,
        "actor_rollout_ref.actor.ppo_epochs": own.epochs_per_step,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": config.responses_per_prompt,
        "actor_rollout_ref.rollout.temperature": rollout.temperature,
        "actor_rollout_ref.rollout.top_p": rollout.top_p,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": cluster.tensor_parallel,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": cluster.log_prob_rows,
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": cluster.log_prob_rows,
        "reward.custom_reward_function.path": "reward.py",
        "reward.custom_reward_function.name": "compute_score",
        "trainer.nnodes": cluster.nodes,
        "trainer.n_gpus_per_node": cluster.gpus_per_node,
        "trainer.total_epochs": cluster.epochs,
        "trainer.save_freq": own.checkpoint_every,
        "trainer.val_before_train": False,
        "trainer.project_name": "reward-distiller",
        "trainer.experiment_name": config.algorithm,
        "trainer.logger": ["console", *(name for name in own.log_to)],
    }


def _mini_batch(config: RLConfig) -> int:
    """Prompts of an update: verl cuts a rollout by prompts."""
    prompts, updates = config.rollout.prompts_per_step, config.optimization.updates_per_step
    if prompts % updates:
        raise ConfigError(f"--emit verl: {prompts} prompts a step cannot be cut into {updates} equal updates")
    return prompts // updates


def _ppo(config: RLConfig) -> Options:
    own = config.ppo
    return {
        "algorithm.adv_estimator": "gae",
        "algorithm.gamma": own.gamma,
        "algorithm.lam": own.lam,
        "algorithm.use_kl_in_reward": own.kl > 0,
        "algorithm.kl_ctrl.kl_coef": own.kl,
        "actor_rollout_ref.actor.use_kl_loss": False,
        **_clip(own.clip, own.clip, "token-mean"),
        "critic.model.path": "${actor_rollout_ref.model.path}",
        "critic.optim.lr": own.critic_learning_rate,
        "critic.ppo_micro_batch_size_per_gpu": config.optimization.rows_per_batch,
        "critic.cliprange_value": own.value_clip,
        "trainer.critic_warmup": own.critic_warmup,
    }


def _grpo(config: RLConfig) -> Options:
    own = config.grpo
    return {**_groups(own.scale, own.kl), **_clip(own.clip, own.clip, "seq-mean-token-mean")}


def _dapo(config: RLConfig) -> Options:
    own, options = config.dapo, {**_groups(config.dapo.scale, config.dapo.kl)}
    options |= _clip(own.clip_low, own.clip_high, "token-mean")
    options["data.gen_batch_size"] = config.cluster.gen_prompts or 2 * config.rollout.prompts_per_step
    if sampling := own.dynamic_sampling:
        if sampling.min_spread > SMALLEST_SPREAD:
            mend = f"Set dapo.dynamic_sampling.min_spread={SMALLEST_SPREAD}"
            raise ConfigError(f"--emit verl: its filter knows no least spread. {mend}")
        options |= {
            "algorithm.filter_groups.enable": True,
            "algorithm.filter_groups.metric": "reward" if sampling.on == TOTAL else sampling.on,
            "algorithm.filter_groups.max_num_gen_batches": sampling.max_rounds,
        }
    limit = config.rollout.max_response_length
    buffer = limit // 5 if own.overlong is None else own.overlong
    if buffer and "overlong" not in config.rewards:
        options |= {
            "reward.reward_manager.name": "dapo",
            "+reward.reward_kwargs.max_resp_len": limit,
            "+reward.reward_kwargs.overlong_buffer_cfg.enable": True,
            "+reward.reward_kwargs.overlong_buffer_cfg.len": buffer,
            "+reward.reward_kwargs.overlong_buffer_cfg.penalty_factor": 1.0,
            "+reward.reward_kwargs.overlong_buffer_cfg.log": True,
        }
    return options


def _groups(scale: str, kl: float) -> Options:
    if scale == "batch":
        raise ConfigError("--emit verl: it scales advantages by groups or not at all. Set scale to group or none")
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": scale == "group",
        "actor_rollout_ref.actor.use_kl_loss": kl > 0,
        "actor_rollout_ref.actor.kl_loss_coef": kl,
        "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    }


def _clip(low: float, high: float, loss: str) -> Options:
    actor = "actor_rollout_ref.actor"
    return {
        f"{actor}.clip_ratio": low,
        f"{actor}.clip_ratio_low": low,
        f"{actor}.clip_ratio_high": high,
        f"{actor}.loss_agg_mode": loss,
    }


def _sft(config: RLConfig, policy: str) -> Options:
    own, cluster = config.optimization, config.cluster
    return {
        "data.train_files": "data/train.parquet",
        "data.train_batch_size": config.sft.rows_per_step,
        "data.micro_batch_size_per_gpu": own.rows_per_batch,
        "data.max_length": config.rollout.max_prompt_length + config.rollout.max_response_length,
        "data.truncation": "right",
        "model.path": policy,
        "model.trust_remote_code": config.policy.trust_remote_code,
        "model.enable_gradient_checkpointing": own.gradient_checkpointing,
        "optim.lr": own.learning_rate,
        "optim.lr_warmup_steps": own.warmup_steps,
        "optim.weight_decay": own.weight_decay,
        "optim.clip_grad": own.max_grad_norm,
        "trainer.seed": config.seed,
        "trainer.nnodes": cluster.nodes,
        "trainer.n_gpus_per_node": cluster.gpus_per_node,
        "trainer.total_epochs": config.sft.epochs,
        "trainer.save_freq": own.checkpoint_every,
        "trainer.project_name": "reward-distiller",
        "trainer.experiment_name": "sft",
        "trainer.logger": ["console", *(name for name in own.log_to)],
    }
