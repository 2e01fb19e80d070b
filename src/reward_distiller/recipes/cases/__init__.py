"""Configs to start from, one commented YAML file a case. What is yours to fill in is marked `# yours`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from reward_distiller.errors import ConfigError, FileError
from reward_distiller.files import write_text

CASES = {
    "openai": "prompts of your own; candidates answer, an OpenAI teacher scores and refines",
    "refine": "pairs of your own; a teacher confirms their labels and refines the rejected responses",
    "vllm": "prompts of your own; teacher and candidates on your vLLM servers, no key",
    "recorded": "pairs of your own with scores that a teacher has given already; nothing is asked",
    "policy": "a policy trained by GRPO on the rewards of a reward model",
    "data_and_rewards": "a smaller model learns from a teacher's responses and from rewards, labeled by a vote",
}


def case_text(name: str) -> str:
    """Raises ConfigError for a case that is none."""
    if name not in CASES:
        raise ConfigError(f"there is no case {name!r}. Use one of {', '.join(CASES)}")
    return (resources.files(__package__) / f"{name}.yaml").read_text("utf-8")


def write_case(name: str, path: str | Path) -> None:
    """Write a case's config to a file that is not there yet. Raises FileError where it is, ConfigError for no case."""
    text = case_text(name)
    if Path(path).exists() or Path(path).is_symlink():
        raise FileError(f"{path} is there already, and stays as it is. Name another file, or move it")
    write_text(path, text.replace("CONFIG", str(path)))
