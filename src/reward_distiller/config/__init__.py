"""The one YAML schema. Every field says what it means; unknown keys and wrong types are errors.

Knows names and numbers only: whether a model loads or an endpoint answers is found out by who uses it.
Keys never stand here, only the names of the environment variables that hold them.
"""

from reward_distiller.config.base import Section, fill_data_folder
from reward_distiller.config.data import DataSource, TaskName, TestbedData, World
from reward_distiller.config.loading import dump_yaml, load_comparison, load_config, parse_config
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
from reward_distiller.config.run import Annotation, Comparison, Config, ScoreMode
from reward_distiller.config.training import Evaluation, Lora, Scratch, Student, Training

__all__ = [
    "KL_SOURCES",
    "Annotation",
    "BatchMode",
    "Caps",
    "ChatModel",
    "Cloud",
    "Comparison",
    "Config",
    "Critiques",
    "DataSource",
    "EditAligned",
    "Endpoint",
    "Evaluation",
    "Lora",
    "Price",
    "RMBoost",
    "RMDistiller",
    "Refined",
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
    "parse_config",
]
