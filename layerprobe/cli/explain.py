"""The command that explains errors and checks by their codes: explain."""

from __future__ import annotations

from typing import Annotated

import typer

from layerprobe.cli.options import Output, user_command

app = typer.Typer()


@app.command(epilog="Example: layerprobe explain LP014")
@user_command
def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE",
            help="Code of an error or of a check in a report, such as LP014, or a word that is looked for in titles "
            "and symptoms; all codes by default.",
        ),
    ] = None,
    *,
    output: Output,
) -> None:
    """Explain an error or a check of the report by its code: symptom, cause, what to do, and an example."""
    from layerprobe.probe.code_pages import explain as page_of

    output.print(page_of(code or ""))
