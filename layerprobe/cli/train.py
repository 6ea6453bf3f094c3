"""Verbs of the command line that train a regressor and use it: train, predict, export."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from layerprobe.cli.options import Debug, Device, ManifestPath, NoSpeakers, Quiet, reported, say, say_quarantined
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.progress import watcher

app = typer.Typer()


@app.command(
    epilog="Example: layerprobe train my.csv --audio ntu-spml/distilhubert --text distilbert-base-uncased "
    "--out runs/audio-text"
)
@reported
def train(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="The run folder; one that is begun is gone on with.")],
    audio: Annotated[str | None, typer.Option(help="A speech encoder: a hub name with @revision, or a folder.")] = None,
    text: Annotated[str | None, typer.Option(help="A text encoder, likewise.")] = None,
    audio_layer: Annotated[str, typer.Option(help="The state that is pooled: last, mix, or a number.")] = "last",
    text_layer: Annotated[str, typer.Option(help="The same of the text encoder.")] = "last",
    random_init: Annotated[int | None, typer.Option(min=0, help="Seed of untrained encoders, the control.")] = None,
    words: Annotated[str, typer.Option(help="The manifest's column that is read.")] = "transcript",
    target: Annotated[list[str] | None, typer.Option(help="A rated target; all if none.")] = None,
    target_weight: Annotated[list[float] | None, typer.Option(help="Of each target in the loss; 1 if none.")] = None,
    test: Annotated[str | None, typer.Option(help="The split to hold out; test or test1 if none.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Regressors that differ by chance alone.")] = 1,
    pooling: Annotated[str, typer.Option(help="attentive, mean_std or mean.")] = "attentive",
    fusion: Annotated[str, typer.Option(help="concatenation, gate or cross_attention.")] = "concatenation",
    hidden: Annotated[int, typer.Option(min=4, help="Features of the head.")] = 256,
    dropout: Annotated[float, typer.Option(min=0, max=0.95, help="Of them.")] = 0.5,
    freeze: Annotated[
        list[str] | None, typer.Option(help="audio, text, or a part: text.embeddings, audio.0, …")
    ] = None,
    train_front_end: Annotated[bool, typer.Option("--train-front-end", help="Train its convolutions, too.")] = False,
    batch_size: Annotated[int, typer.Option(min=2, help="Utterances over which a CCC is taken.")] = 32,
    frame_budget: Annotated[int, typer.Option(min=1, help="Padded frames heard at once, 50 a second.")] = 8000,
    longest_seconds: Annotated[float, typer.Option(min=0.1, help="A longer sound is quarantined.")] = 30.0,
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = 20,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without a better development score.")] = 5,
    learning_rate: Annotated[float, typer.Option(help="Of each encoder's top block.")] = 2e-5,
    head_learning_rate: Annotated[float, typer.Option(help="Of everything else.")] = 1e-3,
    layer_decay: Annotated[float, typer.Option(min=0.01, max=1, help="Of the rate from block to block down.")] = 0.9,
    weight_decay: Annotated[float, typer.Option(min=0, help="Of matrices.")] = 0.01,
    warmup: Annotated[float, typer.Option(min=0, max=1, help="Share of the steps in which rates rise.")] = 0.1,
    clip: Annotated[float, typer.Option(min=0, help="The gradient's largest norm.")] = 1.0,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16; auto: 16 bits on a GPU.")] = "auto",
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Less memory, more time.")] = False,
    device: Device = None,
    no_speakers: NoSpeakers = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train encoders of sound and words together to predict all ratings, judged on speakers never heard."""
    import torch

    from layerprobe.probe.data.read import read_manifest
    from layerprobe.probe.regressor.settings import plan_training
    from layerprobe.probe.regressor.train import train as train_stage

    watch = watcher(quiet=quiet)
    checked = read_manifest(manifest, speakers=not no_speakers)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {device} is asked for, and torch sees no GPU. Use --device cpu.")
    watch.say("Loading encoders …")
    parts, plan = plan_training(
        checked,
        audio=audio,
        text=text,
        words=words,
        audio_layer=audio_layer,
        text_layer=text_layer,
        random_init=random_init,
        targets=tuple(target or ()),
        target_weights=tuple(target_weight or ()),
        test=test,
        seeds=seeds,
        pooling=pooling,
        fusion=fusion,
        hidden=hidden,
        dropout=dropout,
        freeze=tuple(freeze or ()),
        train_front_end=train_front_end,
        batch_size=batch_size,
        frame_budget=frame_budget,
        longest_seconds=longest_seconds,
        epochs=epochs,
        patience=patience,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        warmup=warmup,
        clip=clip,
        precision=precision,
        checkpointing=checkpointing,
        device=device,
        show_download=not quiet,
    )
    command = shlex.join(["layerprobe", *sys.argv[1:]])
    run = train_stage(checked, parts, plan, out=out, device=device, command=command, watch=watch)
    corpus, counts = run.plan["corpus"], run.plan["parameters"]
    say(
        f"{out}: {counts['trainable']:,} of {counts['total']:,} parameters trained on {corpus['n_train']} utterances, "
        f"stopped by {corpus['n_development']}, judged on {corpus['n_held_out']}; {corpus['n_quarantined']} "
        "quarantined.",
        quiet=quiet,
    )
    if corpus["n_wordless"]:
        say(f"  {corpus['n_wordless']} of them have no words; they were read as the empty text.", quiet=quiet)
    pooled = run.scores[(run.scores["fold"] == "pooled") & (run.scores["metric"] == "ccc")]
    for name in plan.targets:
        values = pooled[pooled["target"] == name]["value"]
        say(f"  {name}: CCC " + ", ".join(f"{v:.3f}" for v in values), quiet=quiet)
    say(f"Next: layerprobe compare {out} OTHER, or layerprobe predict {out} new.csv --out predictions.csv", quiet=quiet)


@app.command(epilog="Example: layerprobe predict runs/audio-text new.csv --out predictions.csv")
@reported
def predict(
    run: Annotated[Path, typer.Argument(help="A folder that train made.")],
    table: Annotated[Path, typer.Argument(help="A .csv or .parquet with utterance_id and path; no ratings needed.")],
    out: Annotated[Path, typer.Option(help="The table of ratings to write.")],
    device: Device = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rate sounds with a trained regressor, each rating with its interval."""
    import torch

    from layerprobe.probe.data.read import read_utterances
    from layerprobe.probe.regressor.predict import predict as predict_stage

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = predict_stage(run, read_utterances(table), device=device, watch=watcher(quiet=quiet))
    out.parent.mkdir(parents=True, exist_ok=True)
    found.to_csv(out, index=False, lineterminator="\n")
    refused = found[found["reason"] != ""]
    say(f"{out}: {len(found) - len(refused)} utterances rated, {len(refused)} could not be.", quiet=quiet)
    for row in refused.head(10).to_dict("records"):
        say(f"  {row['utterance_id']}: {row['reason']}", quiet=quiet)


@app.command(epilog="Example: layerprobe export runs/audio-text --out exported")
@reported
def export(
    run: Annotated[Path, typer.Argument(help="A folder that train made.")],
    out: Annotated[Path, typer.Option(help="The folder for the ONNX files.")],
    seed: Annotated[int | None, typer.Option(help="Which of its regressors; the first if none.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a trained regressor as ONNX files, a branch each and a head, checked to give the same ratings."""
    from layerprobe.probe.regressor.onnx import export as export_stage

    watcher(quiet=quiet).say("Tracing …")
    done = export_stage(run, out, seed=seed)
    for path in done.files:
        say(str(path), quiet=quiet)
    say(f"The largest difference of a rating is {done.largest_difference:.1e} standard deviations.", quiet=quiet)


@app.command(
    epilog="Example: layerprobe params --audio ntu-spml/distilhubert --text distilbert-base-uncased "
    "--against facebook/hubert-large-ll60k"
)
@reported
def params(
    audio: Annotated[str | None, typer.Option(help="A speech encoder: a hub name with @revision, or a folder.")] = None,
    text: Annotated[str | None, typer.Option(help="A text encoder, likewise.")] = None,
    against: Annotated[list[str] | None, typer.Option(help="A model to take shares of; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of the sound whose cost is counted.")] = 10.0,
    tokens_per_second: Annotated[float, typer.Option(min=0.1, help="Of the words in it.")] = 3.5,
    measure: Annotated[bool, typer.Option("--measure", help="Measure real-time factors on this machine, too.")] = False,
    csv: Annotated[Path | None, typer.Option(help="A file for the table.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Count what encoders are made of and what is trained of them, from their configurations alone."""
    import math

    from layerprobe.probe.regressor.parameter_count import (
        account,
        accounts_table,
        describe,
        head_for,
        joined,
        real_time_factors,
        tokens_of,
    )

    if audio is None and text is None:
        raise InputError("Name an encoder: --audio, --text or both.")
    heard, read = (None if name is None else describe(name) for name in (audio, text))
    others = [describe(name) for name in against or []]
    n_tokens, n_seconds = tokens_of(seconds, tokens_per_second), max(1, math.ceil(seconds))
    amounts = [(m, n_tokens if m.is_text else n_seconds) for m in (heard, read, *others) if m is not None]
    accounts = {m.name: account(m, amount=n) for m, n in amounts}
    branches = [None if m is None else accounts[m.name] for m in (heard, read)]
    both = joined(branches[0], branches[1], head_for(heard, read))
    shown = [*(b for b in branches if b is not None), both, *(accounts[m.name] for m in others)]
    compared = [accounts[m.name] for m in others]
    for one in shown:
        say(f"{one.name}: {one.total:,} parameters", quiet=quiet)
        say("  " + ", ".join(f"{part.replace('_', ' ')} {n:,}" for part, n in one.parts.items() if n), quiet=quiet)
        say(f"  {one.multiply_adds / seconds / 1e9:.2f} G multiply-adds per second of sound", quiet=quiet)
    headless = joined(branches[0], branches[1], head=_nothing())
    for title, one in (("with its head", both), ("its encoders alone", headless)):
        say(f"{one.name}, {title}, trained:", quiet=quiet)
        for rule in ("everything", "front end frozen", "front end and embeddings frozen"):
            shares = "".join(f", {100 * one.share_of(o, rule):.1f} % of {o.name}" for o in compared)
            say(f"  {rule}: {one.trained(rule):,}{shares}", quiet=quiet)
    if compared:
        say("Shares are of the other model with its front end frozen.", quiet=quiet)
    if measure:
        watcher(quiet=quiet).say("Measuring …")
        factors = real_time_factors(amounts, seconds=float(n_seconds))
        for (model, _), factor in zip(amounts, factors, strict=True):
            say(f"{model.name}: real-time factor {factor:.4f} (float32, {n_seconds} s)", quiet=quiet)
        own = sum(f for (m, _), f in zip(amounts, factors, strict=True) if m in (heard, read))
        say(f"{both.name}: real-time factor {own:.4f}, its branches one after the other", quiet=quiet)
    if csv is not None:
        accounts_table(shown, compared).to_csv(csv, index=False, lineterminator="\n")
        say(str(csv), quiet=quiet)


def _nothing() -> Any:
    import torch

    return torch.nn.Identity()


@app.command(
    epilog="Example: layerprobe distil my.csv --teacher facebook/hubert-base-ls960 --blocks 2 --out models/student"
)
@reported
def distil(
    manifest: ManifestPath,
    teacher: Annotated[str, typer.Option(help="A speech encoder: a hub name with @revision, or a folder.")],
    blocks: Annotated[int, typer.Option(min=1, help="Blocks of the student, the teacher's first.")],
    out: Annotated[Path, typer.Option(help="The transformers folder to write.")],
    layer: Annotated[
        list[str] | None, typer.Option(help="A layer of the teacher to predict; three over its depth if none.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    batch_size: Annotated[int, typer.Option(min=1, help="Utterances a step.")] = 8,
    crop_seconds: Annotated[float, typer.Option(min=0.1, help="Of longer sounds a random piece is heard.")] = 10.0,
    learning_rate: Annotated[float, typer.Option()] = 2e-4,
    cosine_weight: Annotated[float, typer.Option(min=0, help="Of the cosine beside L1.")] = 1.0,
    every: Annotated[int, typer.Option(min=1, help="Steps between two looks at held-out speakers.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    heads_only: Annotated[
        bool, typer.Option("--heads-only", help="Leave the student as it begins: to compare.")
    ] = False,
    random_init: Annotated[int | None, typer.Option(min=0, help="Seed of a student without the teacher's.")] = None,
    train_front_end: Annotated[bool, typer.Option("--train-front-end", help="Train its convolutions, too.")] = False,
    device: Device = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a small encoder of a large one: it learns to predict chosen layers from unlabelled sound."""
    import torch

    from layerprobe.probe.data.read import read_utterances
    from layerprobe.probe.encoders.hooks import tensors_hash
    from layerprobe.probe.encoders.loading import load_model
    from layerprobe.probe.encoders.speech import NEVER_READ
    from layerprobe.probe.layer_names import layer_names
    from layerprobe.probe.pretraining.distil import DistilPlan, default_layers, distil as distil_stage

    watch = watcher(quiet=quiet)
    table = read_utterances(manifest)
    watch.say(f"Loading {teacher} …")
    loaded = load_model(teacher, show_download=not quiet)
    encoder: Any = loaded.family.encoder(loaded.model).float()
    names = layer_names(len(loaded.family.blocks(encoder)), final_norm=loaded.family.final_norm(encoder) is not None)
    plan = DistilPlan(
        teacher=loaded.upstream,
        revision=loaded.revision,
        weights=tensors_hash(encoder, never_read=NEVER_READ),
        n_blocks=blocks,
        layers=tuple(layer) if layer else default_layers(names),
        random_init=random_init,
        heads_only=heads_only,
        train_front_end=train_front_end,
        cosine_weight=cosine_weight,
        steps=steps,
        batch_size=batch_size,
        crop_seconds=crop_seconds,
        learning_rate=learning_rate,
        warmup=0.07,
        clip=1.0,
        held_out=0.1,
        every=every,
        seed=seed,
    )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    done = distil_stage(table, loaded, plan, out=out, device=device, watch=watch)
    first, last = done.log["held_out"].iloc[0], done.log["held_out"].iloc[-1]
    say(
        f"{out}: {blocks} blocks; the loss on held-out speakers fell from {first:.3f} to {last:.3f}; "
        f"{len(done.quarantine)} sounds could not be heard.",
        quiet=quiet,
    )
    say_quarantined(done.quarantine, quiet=quiet, file=out / "quarantine.csv")
    say(f"Next: layerprobe extract MANIFEST --encoder {out} --out caches/student.zarr", quiet=quiet)
