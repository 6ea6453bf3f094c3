"""The command that explains checks of a report: explain."""

from __future__ import annotations

from typing import Annotated

import typer

from layerprobe.cli.options import Output, user_command

app = typer.Typer()


@app.command(epilog="Example: layerprobe explain LP014")
@user_command
def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="Code of a check in a report, such as LP014; all by default.")
    ] = None,
    *,
    output: Output,
) -> None:
    """Explain a check of the report: its symptom, why it matters, what to do, and its source."""
    from layerprobe.analysis.checks.pages import explain as page_of

    output.print(page_of(code or ""))
