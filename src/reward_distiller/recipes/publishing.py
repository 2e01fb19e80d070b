"""What of a finished run is published on the Hub: its model, and its pairs as a data set.

Planned whole before anything is sent. Models go as they lie in model/, pairs with their card as README.md. All else
stays: ledgers, logs and configs may name servers and hold what a provider said. Knows no recipe.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, RepoCard
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError
from huggingface_hub.errors import HTTPError as HubError  # type: ignore[attr-defined]
from huggingface_hub.utils._validators import validate_repo_id

from reward_distiller.console import say
from reward_distiller.errors import ConfigError, PublishError
from reward_distiller.model.chat import first_line
from reward_distiller.recipes.cards.sentences import NO_LICENSE

CARD, DATA_CARD, PAIRS = "README.md", "data_card.md", "pairs.jsonl"
LEAST_SECRET = 8  # characters; a shorter value of a variable is found anywhere
BLOCK = 1 << 20
Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Repository:
    """What goes into one: name there -> file here, and the card."""

    name: str
    kind: Kind
    files: dict[str, Path]
    card: str

    def lines(self) -> list[str]:
        """For people: where, and each file with its bytes."""
        sizes = {name: file.stat().st_size for name, file in self.files.items()} | {CARD: len(self.card.encode())}
        total = f"{self.kind} {self.name}: {len(sizes)} files, {sum(sizes.values()):,} bytes"
        return [total, *(f"  {size:>15,}  {name}" for name, size in sorted(sizes.items()))]

    def as_dict(self) -> dict[str, Any]:
        return {"repository": self.name, "kind": self.kind, "files": sorted([*self.files, CARD])}


@dataclass(frozen=True)
class Publication:
    """`stays` are what of the run folder is not sent."""

    repositories: list[Repository]
    stays: list[str]


def planned(
    run: Path, model: str, data: str | None = None, license: str | None = None, data_license: str | None = None
) -> Publication:
    """What would be sent.

    Raises PublishError for a run that is not finished and where a file holds a secret, ConfigError for a wrong name.
    """
    if not (run / "results.json").is_file() or not (run / "model").is_dir():
        raise PublishError(f"{run}: no finished run with a model: results.json or model/ is missing. Run it to its end")
    files = [p for p in (run / "model").iterdir() if p.is_file() and p.name != CARD and not p.name.startswith(".")]
    found = [_repository(model, "model", run / "model" / CARD, files, license)]
    if data is not None:
        found.append(_repository(data, "dataset", run / DATA_CARD, [run / PAIRS], data_license))
    secrets = _secrets(run)
    for file in (file for repository in found for file in repository.files.values()):
        for name, value in secrets.items():
            if _holds(file, value):
                raise PublishError(f"{file}: it holds the value of {name}. Nothing is sent. Take it out and run again")
    sent = {"model"} | ({PAIRS, DATA_CARD} if data else set())
    rest = {p.name for p in run.iterdir() if not p.name.startswith(".")}
    return Publication(found, sorted(rest - sent))


def publish(publication: Publication, private: bool) -> list[str]:
    """Send it; give the repositories' addresses. Raises PublishError where the Hub refuses or cannot be reached."""
    api = HfApi()
    addresses = []
    for each in publication.repositories:
        operations = [CommitOperationAdd(name, str(file)) for name, file in sorted(each.files.items())]
        operations.append(CommitOperationAdd(CARD, each.card.encode()))
        try:
            where = api.create_repo(each.name, repo_type=each.kind, private=private, exist_ok=True)
            message = "Published with Reward Distiller"
            api.create_commit(each.name, operations, commit_message=message, repo_type=each.kind)
        except LocalTokenNotFoundError as error:
            raise PublishError("the Hub wants a token. Set HF_TOKEN, or log in with `hf auth login`") from error
        except (HubError, OSError, LookupError, ValueError) as error:  # the last two: no Hub that answers so
            raise PublishError(
                f"{each.kind} {each.name}: the Hub did not take it ({first_line(error)}). Check the token's rights and "
                "the name, then run again"
            ) from error
        say(f"published: {where}")
        addresses.append(str(where))
    return addresses


def _repository(name: str, kind: Kind, card: Path, files: list[Path], license: str | None) -> Repository:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"{name}: no repository's name ({first_line(error)}). Write OWNER/NAME") from error
    missing = [str(file) for file in (card, *files) if not file.is_file()]
    if missing:
        raise PublishError(f"{', '.join(missing)}: not there. A run that is done again with this version writes it")
    text = _named(RepoCard(card.read_text("utf-8")), name, license)
    return Repository(name, kind, {file.name: file for file in files}, text)


def _named(card: RepoCard, name: str, license: str | None) -> str:
    """The card under its own name, and with its licence."""
    for model in card.data.get("model-index") or []:
        model["name"] = name.rpartition("/")[2]
    if license:
        card.data["license"] = license
        card.text = card.text.replace(NO_LICENSE, license)
    return str(card)


def _secrets(run: Path) -> dict[str, bytes]:
    """The values of the environment variables that the run's config takes keys from, and of the Hub's own."""
    config = run / "config.yaml"
    named = _variables(yaml.safe_load(config.read_text("utf-8"))) if config.is_file() else ()
    values = {name: os.environ.get(name, "").encode() for name in {"HF_TOKEN", *named}}
    return {name: value for name, value in values.items() if len(value) >= LEAST_SECRET}


def _variables(data: Any) -> Iterator[str]:
    """What stands under keys that end in `_env`."""
    if isinstance(data, list):
        data = dict(enumerate(data))
    for key, value in data.items() if isinstance(data, dict) else ():
        if not str(key).endswith("_env"):
            yield from _variables(value)
        elif isinstance(value, str):
            yield value
        else:
            yield from (value or {}).values()


def _holds(file: Path, secret: bytes) -> bool:
    last = b""
    with open(file, "rb") as opened:
        while block := opened.read(BLOCK):
            if secret in last + block:
                return True
            last = block
    return False
