"""Commands that push runs and caches to others, and pull them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerprobe.cli.options import Output, user_command

app = typer.Typer()
RepoType = Annotated[str | None, typer.Option(help="Kind of the repository: dataset or model.")]
PUSH_EXAMPLE = "Example: layerprobe push runs/first alice/hubert-on-my-corpus"
PULL_EXAMPLE = "Example: layerprobe pull alice/hubert-on-my-corpus --out runs/first"


@app.command(epilog=PUSH_EXAMPLE)
@user_command
def push(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_CACHE", help="Run folder, or cache (NAME.zarr).")],
    repo: Annotated[str, typer.Argument(help="Repository of the hub (user/name), or a folder (file:///…).")],
    with_predictions: Annotated[
        bool,
        typer.Option(
            "--with-predictions", help="Include predictions.npz: ratings, and ids of utterances and speakers."
        ),
    ] = False,
    with_transcripts: Annotated[
        bool,
        typer.Option("--with-transcripts", help="Include embeddings of transcripts, labels of spans and word errors."),
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="Create the repository public; else it is private.")] = False,
    repo_type: RepoType = None,
    *,
    output: Output,
) -> None:
    """Push a run or a cache to the hub or a folder, with a README; audio, ratings and transcripts stay here."""
    from layerprobe.sharing.contents import NEVER, UNKNOWN
    from layerprobe.sharing.push import push as push_stage

    done = push_stage(
        path,
        repo,
        with_predictions=with_predictions,
        with_transcripts=with_transcripts,
        repo_type=repo_type,
        public=public,
        progress=output.progress,
    )
    size = f"{done.n_files} files, {done.bytes / 1e6:.1f} MB"
    output.print(f"{repo}: {done.kind} of {size}, all as sent; {done.n_sent} were sent now.")
    for name, rule in done.left_out:
        if rule.when != NEVER:
            output.print(f"  left out: {name} ({rule.what}); {rule.when} includes it.")
        elif rule is UNKNOWN:
            output.print(f"  left out: {name} ({rule.what}).")
    output.print(f"Next: layerprobe pull {repo}")


@app.command(epilog=PULL_EXAMPLE)
@user_command
def pull(
    repo: Annotated[str, typer.Argument(help="Repository of the hub (user/name), or a folder (file:///…).")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; caches/NAME.zarr or runs/NAME by default.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; the latest by default.")] = None,
    repo_type: RepoType = None,
    *,
    output: Output,
) -> None:
    """Fetch a run or a cache that was pushed, and check every file; an interrupted pull is resumed."""
    from layerprobe.sharing.pull import pull as pull_stage
    from layerprobe.sharing.source import CACHE

    done = pull_stage(repo, out=out, revision=revision, repo_type=repo_type, progress=output.progress)
    commit = f", commit {done.commit[:12]}" if done.commit else ""
    output.print(f"{done.path}: {done.kind} of {done.n_files} files{commit}; {done.n_fetched} were fetched now.")
    if done.not_pushed:
        output.print(
            f"  It was pushed without {', '.join(done.not_pushed)}: findings.json, scores and figures are there, and "
            "figures and reports can't be made anew."
        )
        output.print(f'Next: layerprobe.read_run("{done.path}") in Python')
        return
    command = f"cache info {done.path}" if done.kind == CACHE else f"report {done.path}"
    output.print(f"Next: layerprobe {command}")
