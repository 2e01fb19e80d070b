"""The one YAML schema. Every field says what it means; unknown keys and wrong types are errors.

Knows names and numbers only: whether a model loads or an endpoint answers is found out by who uses it.
Keys never stand here, only the names of the environment variables that hold them.
"""

from reward_distiller.config.base import Section, fill_data_folder
from reward_distiller.config.data import DataSource, TaskName, TestbedData, World
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
from reward_distiller.config.rl import (
    TOTAL,
    Algorithm,
    DynamicSampling,
    Ensemble,
    Guards,
    Made,
    RewardSource,
    RewardTerm,
    RLConfig,
)
from reward_distiller.config.run import Annotation, Comparison, Config, ScoreMode
from reward_distiller.config.training import Evaluation, Lora, Scratch, Student, Training

__all__ = [
    "BASE",
    "KL_SOURCES",
    "TOTAL",
    "Algorithm",
    "Annotation",
    "AnyRun",
    "BatchMode",
    "Caps",
    "ChatModel",
    "Cloud",
    "Comparison",
    "Config",
    "Critiques",
    "DataSource",
    "DynamicSampling",
    "EditAligned",
    "Endpoint",
    "Ensemble",
    "Evaluation",
    "Guards",
    "Lora",
    "Made",
    "Price",
    "RLConfig",
    "RMBoost",
    "RMDistiller",
    "Refined",
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
