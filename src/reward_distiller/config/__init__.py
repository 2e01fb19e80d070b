"""The one YAML schema. Every field says what it means; unknown keys and wrong types are errors.

Knows names and numbers only: whether a model loads or an endpoint answers is found out by who uses it.
Keys never stand here, only the names of the environment variables that hold them.
"""

from reward_distiller.config.base import Section, fill_data_folder
from reward_distiller.config.data import DataSource, TaskName, TestbedData, World
from reward_distiller.config.data_and_rewards import TEACHER_TEST, DataAndRewards
from reward_distiller.config.loading import (
    BASE,
    AnyRun,
    dump_yaml,
    load_comparison,
    load_config,
    load_rl_config,
    load_run,
    parse_config,
    parse_run,
)
from reward_distiller.config.methods import (
    KL_SOURCES,
    Cloud,
    Critiques,
    EditAligned,
    Refined,
    RMBoost,
    RMDistiller,
    SteerLM,
)
from reward_distiller.config.models import BatchMode, Caps, ChatModel, Endpoint, Price, Sampling
from reward_distiller.config.policy import Policy
from reward_distiller.config.pseudo_rewards import CONSENSUS, Answers, Labels, PseudoRewards
from reward_distiller.config.rl import (
    TOTAL,
    Algorithm,
    DynamicSampling,
    Ensemble,
    Guards,
    RewardSource,
    RewardTerm,
    RLConfig,
)
from reward_distiller.config.run import Annotation, Comparison, Config, Report, ScoreMode
from reward_distiller.config.training import Evaluation, Lora, Scratch, Student, Training
from reward_distiller.config.whole_run import Made

__all__ = [
    "BASE",
    "CONSENSUS",
    "KL_SOURCES",
    "TEACHER_TEST",
    "TOTAL",
    "Algorithm",
    "Annotation",
    "Answers",
    "AnyRun",
    "BatchMode",
    "Caps",
    "ChatModel",
    "Cloud",
    "Comparison",
    "Config",
    "Critiques",
    "DataAndRewards",
    "DataSource",
    "DynamicSampling",
    "EditAligned",
    "Endpoint",
    "Ensemble",
    "Evaluation",
    "Guards",
    "Labels",
    "Lora",
    "Made",
    "Policy",
    "Price",
    "PseudoRewards",
    "RLConfig",
    "RMBoost",
    "RMDistiller",
    "Refined",
    "Report",
    "RewardSource",
    "RewardTerm",
    "Sampling",
    "ScoreMode",
    "Scratch",
    "Section",
    "SteerLM",
    "Student",
    "TaskName",
    "TestbedData",
    "Training",
    "World",
    "dump_yaml",
    "fill_data_folder",
    "load_comparison",
    "load_config",
    "load_rl_config",
    "load_run",
    "parse_config",
    "parse_run",
]
