"""Command that serves a predictor: a page and a JSON interface on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.options import Device, Output, user_command
from layerprobe.probe.exceptions import InputError
from layerprobe.serving.settings import ServingSettings

if TYPE_CHECKING:
    from layerprobe.probe.predictors.predictor import Predictor

app = typer.Typer()


@app.command(epilog="Example: layerprobe serve models/avd")
@user_command
def serve(
    predictor: Annotated[Path, typer.Argument(help="Folder of a predictor that deploy made.")],
    settings: ServingSettings,
    device: Device = None,
    *,
    output: Output,
) -> None:
    """Serve a predictor as a page with file drop and microphone, and as JSON, on this machine alone by default."""
    try:
        from layerprobe.serving.server import serve as serve_stage
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "h11", "anyio"):
            raise
        raise InputError(
            "LP820", f"Serving needs {error.name}. Install it: pip install 'layerprobe[serve]'."
        ) from error
    from layerprobe.probe.system import choose_device

    def announce(url: str, loaded: Predictor) -> None:
        output.print(f"{url} rates {', '.join(loaded.targets)} of recordings; {url}api describes the JSON interface.")
        output.print("Recordings stay in memory and are never written to a disk. Ctrl-C ends the server.")

    serve_stage(predictor, settings, device=choose_device(device), announce=announce, log=output.progress.log)
    output.print("The server has ended.")
