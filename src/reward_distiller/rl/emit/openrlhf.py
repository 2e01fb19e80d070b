"""The same training as options of OpenRLHF (0.11). Its rewards come from one server; so there is one reward model.

OpenRLHF sends whole rendered chats, so the policy must have the reward model's chat template. Not honoured: rules and
other terms (refused), optimization.steps (it counts episodes), guards and evaluation.
"""

from __future__ import annotations

from typing import Any

from reward_distiller.config import RLConfig
from reward_distiller.errors import ConfigError
from reward_distiller.rewards import openrlhf as face
from reward_distiller.rl.emit.engine import Emitted, script, served

Options = dict[str, Any]  # flag -> value; True: the flag alone, None or False: not at all


def emitted(config: RLConfig, policy: str) -> Emitted:
    if config.algorithm == "sft":
        command = ["deepspeed", "--module", "openrlhf.cli.train_sft"]
        return Emitted({"launch.sh": script(config, "openrlhf", command, flags(_sft(config, policy)))})
    _check(config)
    options = _common(config, policy) | {"ppo": _ppo, "grpo": _grpo, "dapo": _dapo}[config.algorithm](config)
    command = ["python3", "-m", "openrlhf.cli.train_ppo_ray"]
    return Emitted({"launch.sh": script(config, "openrlhf", command, flags(options)), "reward.py": REWARD})


REWARD = f'''"""OpenRLHF's reward function. Made by `reward-distiller rl --emit openrlhf`."""

from {face.__name__} import reward_func

__all__ = ["reward_func"]
'''


def flags(options: Options) -> list[str]:
    found = []
    for name, value in options.items():
        if value is True:
            found.append(f"--{name}")
        elif value is not None and value is not False:
            found += [f"--{name}", *(str(v) for v in (value if isinstance(value, list) else [value]))]
    return found


def _check(config: RLConfig) -> None:
    names = served(config)
    others = [name for name in config.rewards if name not in names]
    if others or len(names) != 1 or config.rewards[names[0]].weight != 1.0:
        raise ConfigError(
            "--emit openrlhf: it asks one server for all of the reward. Name one reward model of weight 1, "
            "or use --emit verl"
        )


def _common(config: RLConfig, policy: str) -> Options:
    own, rollout, cluster = config.optimization, config.rollout, config.cluster
    rows = rollout.prompts_per_step * config.responses_per_prompt
    return {
        "actor.model_name_or_path": policy,
        "actor.num_nodes": cluster.nodes,
        "actor.num_gpus_per_node": cluster.gpus_per_node,
        "ref.num_nodes": cluster.nodes,
        "ref.num_gpus_per_node": cluster.gpus_per_node,
        "train.colocate_all": True,
        "vllm.num_engines": cluster.nodes * cluster.gpus_per_node // cluster.tensor_parallel,
        "vllm.tensor_parallel_size": cluster.tensor_parallel,
        "vllm.enable_sleep": True,
        "vllm.gpu_memory_utilization": 0.6,
        "ds.enable_sleep": True,
        "reward.remote_url": "reward.py",
        "reward.clip_range": [-1e6, 1e6],
        "data.prompt_dataset": "data/train.jsonl",
        "data.input_key": "prompt",
        "data.apply_chat_template": True,
        "data.max_len": rollout.max_prompt_length + rollout.max_response_length,
        "rollout.max_new_tokens": rollout.max_response_length,
        "rollout.batch_size": rollout.prompts_per_step,
        "rollout.vllm_generate_batch_size": cluster.gen_prompts,
        "rollout.micro_batch_size": cluster.log_prob_rows,
        "rollout.n_samples_per_prompt": config.responses_per_prompt,
        "rollout.temperature": rollout.temperature,
        "rollout.top_p": rollout.top_p,
        "train.batch_size": rows // own.updates_per_step,
        "train.micro_batch_size": own.rows_per_batch,
        "train.max_epochs": own.epochs_per_step,
        "train.num_episodes": cluster.epochs,
        "train.seed": config.seed,
        "actor.adam.lr": own.learning_rate,
        "actor.adam.weight_decay": own.weight_decay,
        "actor.max_norm": own.max_grad_norm,
        "actor.lr_scheduler": "constant_with_warmup",
        "actor.gradient_checkpointing_enable": own.gradient_checkpointing,
        "ckpt.save_steps": own.checkpoint_every,
        "ckpt.output_dir": "model",
        "ckpt.path": "checkpoints",
        "ckpt.load_enable": True,
    }


def _ppo(config: RLConfig) -> Options:
    own, cluster = config.ppo, config.cluster
    return {
        "algo.advantage.estimator": "gae",
        "algo.advantage.gamma": own.gamma,
        "algo.advantage.lambd": own.lam,
        "algo.kl.init_coef": own.kl,
        "algo.kl.estimator": "k1",
        "actor.eps_clip": own.clip,
        "actor.loss_agg_mode": "token-mean",
        "critic.num_nodes": cluster.nodes,
        "critic.num_gpus_per_node": cluster.gpus_per_node,
        "critic.value_clip": own.value_clip,
        "critic.adam.lr": own.critic_learning_rate,
        "critic.lr_scheduler": "constant_with_warmup",
        "critic.freezing_steps": own.critic_warmup or None,
    }


def _grpo(config: RLConfig) -> Options:
    own = config.grpo
    return {
        **_groups(own.scale, own.kl),
        "actor.eps_clip_low_high": [own.clip, own.clip],
        "actor.loss_agg_mode": "seq-mean-token-mean",
    }


def _dapo(config: RLConfig) -> Options:
    own, limit = config.dapo, config.rollout.max_response_length
    if own.dynamic_sampling is not None:
        raise ConfigError(
            "--emit openrlhf: its dynamic filter keeps groups whose mean reward lies in a fixed range, which a reward "
            "model's has not. Set dapo.dynamic_sampling=null, or use --emit verl"
        )
    buffer = limit // 5 if own.overlong is None else own.overlong
    return {
        **_groups(own.scale, own.kl),
        "actor.eps_clip_low_high": [own.clip_low, own.clip_high],
        "actor.loss_agg_mode": "token-mean",
        "reward.overlong_buffer_len": buffer or None,
        "reward.overlong_penalty_factor": 1.0 if buffer else None,
    }


def _groups(scale: str, kl: float) -> Options:
    if scale == "batch":
        raise ConfigError("--emit openrlhf: it scales advantages by groups or not at all. Set scale to group or none")
    return {
        "algo.advantage.estimator": "group_norm",
        "algo.advantage.no_std_norm": scale == "none",
        "algo.kl.use_loss": kl > 0,
        "algo.kl.init_coef": kl,
        "algo.kl.estimator": "k3",
    }


def _sft(config: RLConfig, policy: str) -> Options:
    own = config.optimization
    return {
        "model.model_name_or_path": policy,
        "model.gradient_checkpointing_enable": own.gradient_checkpointing,
        "data.dataset": "data/train.jsonl",
        "data.input_key": "prompt",
        "data.output_key": "response",
        "data.apply_chat_template": True,
        "data.max_len": config.rollout.max_prompt_length + config.rollout.max_response_length,
        "train.batch_size": config.sft.rows_per_step,
        "train.micro_batch_size": own.rows_per_batch,
        "train.max_epochs": config.sft.epochs,
        "train.seed": config.seed,
        "adam.lr": own.learning_rate,
        "adam.weight_decay": own.weight_decay,
        "max_norm": own.max_grad_norm,
        "lr_scheduler": "constant_with_warmup",
        "ckpt.save_steps": own.checkpoint_every,
        "ckpt.output_dir": "model",
        "ckpt.path": "checkpoints",
        "ckpt.load_enable": True,
    }
