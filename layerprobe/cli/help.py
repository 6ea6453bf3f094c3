"""Help pages of the command line: commands in panels by group, flags without a type."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from layerprobe.cli.errors import usage_errors_with_codes

PANELS = {  # in this order; aliases are in `ALIASES`
    "Corpus": ("manifest", "transcribe", "asr-impact", "synthesise"),
    "Embeddings": ("extract", "cache", "check-encoder"),
    "Probing": ("sweep", "fuse"),
    "Figures": (
        "heatmap",
        "curves",
        "layer-weights",
        "depth",
        "best-layer",
        "gain-over-random",
        "gain",
        "erasure",
        "time-map",
        "time-curve",
        "similarity",
        "cost",
        "table",
        "report",
    ),
    "Models": ("deploy", "train", "predict", "serve", "export", "compare", "distil", "pretrain", "count-params"),
    "Sharing": ("push", "pull"),
    "Utilities": ("demo", "explain"),
}
ALIASES = {"synthesize": "synthesise", "distill": "distil"}  # American spellings, hidden from the help
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}


class Command(TyperCommand):
    """A command whose help shows flags without ``<bool>``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters without the type of flags; see `typer.core.TyperCommand`."""
        return _without_type(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose help shows flags without ``<bool>``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters without the type of flags; see `typer.core.TyperGroup`."""
        return _without_type(super().get_params(ctx))


class PanelGroup(Group):
    """The commands of the program in the order of `PANELS`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands that the help shows; see `typer.core.TyperGroup`."""
        names = [name for name in super().list_commands(ctx) if name not in ALIASES]
        return sorted(names, key=list(PANEL_OF).index)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the command; errors are printed with their codes."""
        with usage_errors_with_codes():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Parse the rest and run the command; errors about what was typed are printed with their codes."""
        with usage_errors_with_codes():
            return super().invoke(ctx)


def assign_panels(app: typer.Typer) -> None:
    """Give every command, including those of groups, its panel and the class that shows its help."""
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        command.cls, command.rich_help_panel = Command, PANEL_OF[ALIASES.get(name, name)]
    for group in app.registered_groups:
        group.cls, group.rich_help_panel = Group, PANEL_OF[str(group.name)]
        if group.typer_instance is not None:
            for command in group.typer_instance.registered_commands:
                command.cls = command.cls if issubclass(command.cls or TyperCommand, Command) else Command


def _without_type(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters
