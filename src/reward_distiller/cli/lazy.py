"""Groups of commands. Of one in sections each command is imported when it is asked for, so neither help nor completion
waits for torch, and its help fits a terminal of 24 lines; the others say of each command its whole first sentence.
Knows no command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
import typer.core
import typer.main
from typer._click.shell_completion import CompletionItem  # which typer gives no public name


class Command(NamedTuple):
    """`place` is MODULE:ATTRIBUTE, a function or a Typer app; `about` its line in the list."""

    place: str
    about: str


Sections = Mapping[str, Mapping[str, Command]]


class LazyCommands(typer.core.TyperGroup):
    """A subclass says its `sections`; the commands of those in `brief` stand in one line."""

    sections: ClassVar[Sections] = {}
    brief: ClassVar[Mapping[str, str]] = {}

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.commands = _Imported(self.sections)  # type: ignore[assignment]  # nobody adds to them

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, what it is, a line for each command behind its section's title, options, and the epilog."""
        self.format_usage(ctx, formatter)
        formatter.write(f"{self.help}\n\n")
        width = max(map(len, self.sections)) + 2
        names = 2 + max(len(n) for title, part in self.sections.items() if title not in self.brief for n in part)
        for title, section in self.sections.items():
            if title in self.brief:
                formatter.write(f"{title:<{width}}{', '.join(section)}: {self.brief[title]}\n")
                continue
            for at, (name, command) in enumerate(section.items()):
                formatter.write(f"{'' if at else title:<{width}}{name:<{names}}{command.about}\n")
        options = ", ".join(each.opts[0] for each in self.get_params(ctx))
        formatter.write(f"Options: {options}\n{self.epilog}\n")

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        if incomplete.startswith("-"):
            return [
                CompletionItem(option)
                for each in self.get_params(ctx)
                for option in each.opts
                if option.startswith(incomplete)
            ]
        listed = [(name, each.about) for section in self.sections.values() for name, each in section.items()]
        return [CompletionItem(name, help=about) for name, about in listed if name.startswith(incomplete)]


class Described(typer.core.TyperGroup):
    """A group whose help cuts no command's line short."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(each.help or "")) for name, each in self.commands.items()])


def _first_sentence(text: str) -> str:
    sentence, _, rest = " ".join(text.split("\n\n")[0].split()).partition(". ")
    return sentence if rest else sentence.removesuffix(".")


class _Imported(Mapping[str, Any]):
    """The commands by name."""

    def __init__(self, sections: Sections):
        self._places = {name: command.place for section in sections.values() for name, command in section.items()}
        self._built: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _imported(name, self._places[name])
        return self._built[name]


def _imported(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command(name)(found)
        command = typer.main.get_command(app)
    command.name = name
    if "transformers" in sys.modules:
        _quiet()
    return command


def _quiet() -> None:
    """Without transformers' own progress bars and warnings: ours say more."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
