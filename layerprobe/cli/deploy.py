"""The command that makes a predictor of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerprobe.cli.options import Output, RunPath, path_or_url, user_command

if TYPE_CHECKING:
    from layerprobe.deployment.deploy import Deployed

app = typer.Typer()


@app.command(epilog="Example: layerprobe deploy runs/first --encoder facebook/hubert-large-ll60k --out models/avd")
@user_command
def deploy(
    run: RunPath,
    out: Annotated[Path, typer.Option(help="Folder to write the predictor to.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder: its name in the run, or where its weights are (a folder, or a name of the hub); by default "
            "the run's only one of audio, or of several the one with the highest scores."
        ),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Rating to predict (repeatable); all of the run by default.")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TARGET=]LAYER",
            help="Layer of a target (repeatable), or of all: a number, final, weighted_sum, uniform_mix or "
            "softmax_mix; by default the lowest that is not significantly worse than the best.",
        ),
    ] = None,
    cache: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path_or_url, metavar="PATH", help="Cache that is no longer where the run records it (repeatable)."
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(parser=path_or_url, metavar="PATH", help="Manifest, if it is no longer where the run records it."),
    ] = None,
    *,
    output: Output,
) -> None:
    """Make a predictor: the encoder cut at the layer that suffices, with a head and an interval for each rating."""
    from layerprobe.deployment.choice import parse_layers
    from layerprobe.deployment.deploy import deploy as deploy_stage

    done = deploy_stage(
        run,
        out,
        encoder=encoder,
        layers=parse_layers(layer or []),
        targets=target or (),
        caches=cache or (),
        manifest=manifest,
        progress=output.progress,
    )
    for line in _summary(done):
        output.print(line)
    output.print(f"Next: layerprobe predict {out} talk.wav --out ratings.csv")
    output.print(f"Next: layerprobe serve {out}")


def _summary(done: Deployed) -> list[str]:
    """Return what was made, as lines."""
    from layerprobe.analysis.formatting import number_text, ranged
    from layerprobe.probe.predictors.fitting import MIXES

    plan, (kept, whole) = done.plan, done.parameters
    lines = [
        f"{done.folder}: {plan.n_blocks} of {plan.n_blocks_of_whole} blocks of {plan.upstream}, {kept:,} of "
        f"{whole:,} parameters, {done.bytes / 1e6:.1f} MB."
    ]
    for choice, head, row in zip(done.chosen, done.heads, done.scores, strict=True):
        name = choice.layer if choice.layer in MIXES else f"layer {choice.layer}"
        lines.append(
            f"  {choice.target}: {name}, {choice.reason}; CCC {ranged(row)} on unseen speakers, "
            f"± {number_text(head.half_width)} in {100 * plan.level:.0f} %"
        )
    return [*lines, *done.notes]
