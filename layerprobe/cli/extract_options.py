"""Groups of options of the command extract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from layerprobe.cli.options import AudioOptions, UpstreamOptions
from layerprobe.probe.training.options import option

if TYPE_CHECKING:
    from layerprobe.probe.extraction.settings import ExtractionSettings


@dataclass(frozen=True)
class EncoderOptions(UpstreamOptions):
    """The encoder to run; with a plan it may be omitted."""

    encoder: str = option(
        "",
        help="Encoder: a hub name with an optional @revision, a local folder, embedded, or acoustic (features); may be "
        "omitted with --plan.",
    )


@dataclass(frozen=True)
class EmbeddingOptions:
    """What is pooled of each utterance, and how a cache stores it."""

    pooling: tuple[str, ...] = option(
        (),
        help="Pooling over frames (repeatable): mean, std, max, min, first_third, last_third, first_token or "
        "normed_mean; by default mean and std of speech, mean and first_token of text.",
    )
    text_column: str = option("transcript", help="Column of the manifest that a text encoder reads.")
    storage_dtype: str = option("float32", help="Data type of the stored embeddings: float32 or float16.")
    prune: bool = option(False, help="Remove rows of utterances that the manifest no longer has.")
    plan: Path | None = option(
        None,
        metavar="CACHE",
        help="Cache whose plan is used again: encoder, random weights, precision, forward pass, channel, trimming, "
        "poolings, text column and storage data type; options on the command line take precedence.",
    )


@dataclass(frozen=True)
class SpanChoice:
    """Which spans of each utterance become rows of the cache."""

    spans: Path | None = option(
        None,
        metavar="PATH",
        help="Spans to pool, a row for each, after each utterance was encoded as a whole: a table with utterance_id, "
        "start, end and label, a .TextGrid, a folder of these, or a .ctm file.",
    )
    tier: str = option("", help="Tier of the TextGrids of --spans; `words`, or the only one, by default.")
    every: float | None = option(None, help="Seconds from one window to the next, with --window, in place of --spans.")
    window: float | None = option(None, help="Seconds of a window; see --every.")

    def of(self, settings: ExtractionSettings) -> ExtractionSettings:
        """Return settings with these spans; as they are if no option is given."""
        from layerprobe.probe.data.spans import SpanOptions

        if self.spans is None and self.every is None and self.window is None and not self.tier:
            return settings
        return replace(settings, spans=SpanOptions(self.spans, self.tier, self.every, self.window))


@dataclass(frozen=True)
class ParallelOptions:
    """Where utterances are encoded: threads of this process, several processes, or several machines."""

    jobs: int | None = option(
        None,
        low=1,
        help="Utterances encoded in parallel, or threads of a packed pass on the CPU; one per core by default.",
    )
    loaders: int | None = option(
        None,
        low=1,
        help="Threads that decode audio; by default two on the CPU; on a GPU one per core but one, at most 8.",
    )
    batch_frames: int | None = option(
        None,
        low=1,
        help="Frames of audio (50 a second; 1,500 of each window of Whisper) or tokens of text that a packed "
        "forward pass takes together; chosen from the free memory by default.",
    )
    shard: str | None = option(None, help="Shard to fill, NUMBER/OF such as 3/16; cache merge joins all shards.")
    processes: int | None = option(None, low=1, help="Number of processes, each with a GPU where there are some.")
    dask: str | None = option(None, help="Address of a Dask scheduler whose workers fill the cache.")

    def of(self, settings: ExtractionSettings) -> ExtractionSettings:
        """Return settings with these options of one process."""
        return replace(settings, jobs=self.jobs, loaders=self.loaders, batch_frames=self.batch_frames)


@dataclass(frozen=True)
class ChosenOptions:
    """The groups of options of the command line."""

    upstream: EncoderOptions
    audio: AudioOptions
    embedding: EmbeddingOptions
    spans: SpanChoice
    parallel: ParallelOptions

    def of(self, settings: ExtractionSettings) -> ExtractionSettings:
        """Return settings with the spans and the parallelism of the command line."""
        return self.parallel.of(self.spans.of(settings))
