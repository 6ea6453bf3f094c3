"""Embedding of utterances in order by a packed pass: the device encodes one pack while the host prepares the next.

Each utterance is encoded as if it were alone. Where memory runs out, the frames that run together are halved and the
same utterances are encoded again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from layerprobe.probe.data.audio import InvalidAudioError
from layerprobe.probe.data.audio_hashes import records
from layerprobe.probe.data.inputs import InputReader
from layerprobe.probe.data.spans import SpanSource
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.extraction.encoding.embedding import (
    EmbeddedUtterance,
    embed,
    embed_spans,
    is_out_of_memory,
    not_finite,
    too_large,
)
from layerprobe.probe.extraction.encoding.packs import PackingEncoder, frame_budget, frames_ahead, packs, windows
from layerprobe.probe.extraction.encoding.read_ahead import PreparedUtterance, ReadAhead
from layerprobe.probe.system import torch_threads

IN_FLIGHT = 1  # packs on the device while the host prepares another


@dataclass(frozen=True)
class PackOptions:
    """How utterances are encoded together."""

    poolings: tuple[str, ...]  # keys of `probe.forward.pooling.POOLINGS`
    jobs: int  # threads of matrix products, on the CPU
    loaders: int  # threads that read
    batch_frames: int | None  # that run together; None chooses by the free memory
    log: Callable[[str], None]  # receives a sentence where memory runs out
    spans: SpanSource | None = None  # of utterances, which are pooled in their place


def embed_packed(
    table: pd.DataFrame, encoder: AnyEncoder, packing: PackingEncoder, reader: InputReader, options: PackOptions
) -> Generator[EmbeddedUtterance, None, None]:
    """Embed the rows of a manifest's table, in their order, many at once.

    Args:
        table: rows of a manifest, with the columns that ``reader`` needs
        encoder: of audio or text
        packing: the same encoder
        reader: returns the input of each row
        options: poolings and parallelism

    Yields:
        one record per row, with a reason instead of embeddings where the input can't be used
    """
    budget = options.batch_frames or frame_budget(encoder)
    window_frames = frames_ahead(packing.packed, budget)
    ahead = ReadAhead(
        records(table),
        encoder,
        reader,
        loaders=options.loaders,
        at_most=window_frames + 2 * budget,
        spans=options.spans,
    )
    embedding = _PackEmbedding(encoder, packing, options.poolings, budget, options.log)
    try:
        with torch_threads(options.jobs if encoder.device == "cpu" else 1):
            position = 0
            for window in windows(ahead, window_frames):
                embedding.refuse([one for one in window if one.reason])
                for pack in packs([one for one in window if not one.reason], packing.packed, embedding.budget):
                    embedding.launch(pack)
                    embedding.collect(IN_FLIGHT)
                    while (done := embedding.done.pop(position, None)) is not None:
                        yield done
                        position += 1
            embedding.collect(0)
            for position in sorted(embedding.done):
                yield embedding.done[position]
    finally:
        ahead.close()


@dataclass(frozen=True)
class _Launched:
    """A pack that the device encodes, and where its results arrive."""

    utterances: list[PreparedUtterance]
    # (n_rows, n_layers, n_poolings, dim) float32 on the host, once the device has ended; a row for each utterance, or
    # for each span of these
    embeddings: Tensor
    is_finite: Tensor  # (n_rows,) bool, also on the host then
    wait: Callable[[], float]  # until the results are there; returns the seconds that the device took


class _PackEmbedding:
    """Launches packs and collects their results."""

    def __init__(
        self,
        encoder: AnyEncoder,
        packing: PackingEncoder,
        poolings: tuple[str, ...],
        budget: int,
        log: Callable[[str], None],
    ) -> None:
        self._encoder, self._packing, self._poolings, self._log = encoder, packing, poolings, log
        self.budget = budget  # frames that run together, halved when memory runs out
        self.done: dict[int, EmbeddedUtterance] = {}  # by position
        self._in_flight: deque[_Launched] = deque()

    def launch(self, pack: list[PreparedUtterance]) -> None:
        """Have a pack encoded; an utterance of more frames than the budget is encoded alone."""
        to_launch = deque([pack])
        while to_launch:
            parts = packs(to_launch.popleft(), self._packing.packed, self.budget)
            if len(parts) > 1:  # the budget has been halved since this pack was formed
                to_launch.extendleft(reversed(parts))
                continue
            (utterances,) = parts
            n_frames = sum(one.n_frames for one in utterances)
            if len(utterances) == 1 and n_frames > self.budget:
                self._embed_alone(utterances[0])
            elif (launched := self._try_to_launch(utterances)) is not None:
                self._in_flight.append(launched)
            else:
                self._free_memory()
                self.budget = max(1, min(self.budget, n_frames) // 2)
                self._log(f"Memory ran out with {n_frames} frames at once; continuing with {self.budget}.")
                to_launch.appendleft(utterances)

    def collect(self, n: int) -> None:
        """Wait until at most ``n`` packs are on the device."""
        while len(self._in_flight) > n:
            launched = self._in_flight.popleft()
            seconds = launched.wait() / len(launched.utterances)
            end = 0
            for one in launched.utterances:
                begin, end = end, end + (1 if one.spans is None else len(one.spans.spans))
                embeddings = launched.embeddings[begin:end].numpy()
                is_finite = bool(launched.is_finite[begin:end].all())
                found = embeddings[0] if one.spans is None else embeddings
                self._keep(one, found if is_finite else None, "" if is_finite else str(not_finite()), seconds)

    def refuse(self, utterances: list[PreparedUtterance]) -> None:
        """Keep the reasons of utterances that can't be used."""
        for one in utterances:
            self._keep(one, None, one.reason, 0.0)

    def _keep(self, one: PreparedUtterance, embeddings: np.ndarray | None, reason: str, seconds: float) -> None:
        read = one.model_input
        self.done[one.position] = EmbeddedUtterance(
            one.row,
            read.content,
            embeddings,
            reason,
            read.seconds,
            seconds,
            one.seconds,
            read.remarks + (() if one.spans is None else one.spans.remarks),
            one.spans,
        )

    def _try_to_launch(self, utterances: list[PreparedUtterance]) -> _Launched | None:
        """Launch a pack; None if memory does not suffice, of which the failed one holds nothing when this returns."""
        try:
            return _launched(self._packing, utterances, self._poolings)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _embed_alone(self, one: PreparedUtterance) -> None:
        self.collect(0)  # so that it has the memory for itself
        began = time.perf_counter()
        embeddings, reason = None, ""
        try:
            data = one.model_input.data
            if one.spans is None:
                embeddings = embed(self._encoder, data, poolings=self._poolings)
            else:
                embeddings = embed_spans(self._encoder, data, one.spans, poolings=self._poolings).embeddings
        except InvalidAudioError as error:
            reason = str(error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(too_large(one.model_input.seconds))
        if reason:
            self._free_memory()
        self._keep(one, embeddings, reason, time.perf_counter() - began)

    def _free_memory(self) -> None:
        self.collect(0)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@torch.inference_mode()
def _launched(packing: PackingEncoder, utterances: list[PreparedUtterance], poolings: tuple[str, ...]) -> _Launched:
    """Launch a pack, and the copies of its results to the host."""
    chunks = [one.chunks for one in utterances]
    ranges = [(one.ranges.begins, one.ranges.counts) for one in utterances if one.ranges is not None]
    spans = ranges or None
    if not packing.device.startswith("cuda"):
        began = time.perf_counter()
        embeddings = packing.embed_pack(chunks, poolings=poolings, spans=spans).cpu()
        seconds = time.perf_counter() - began
        return _Launched(utterances, embeddings, _finite_rows(embeddings), lambda: seconds)
    stream = torch.cuda.current_stream(packing.device)
    # blocking: a host thread that spins until the device has ended would take a core from the readers
    first, last = (torch.cuda.Event(enable_timing=True, blocking=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record(stream)
    on_device = packing.embed_pack(chunks, poolings=poolings, spans=spans)
    embeddings, is_finite = _to_host(on_device), _to_host(_finite_rows(on_device))
    last.record(stream)

    def wait() -> float:
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3

    return _Launched(utterances, embeddings, is_finite, wait)


def _finite_rows(embeddings: Tensor) -> Tensor:
    return torch.isfinite(embeddings).flatten(1).all(dim=1)


def _to_host(values: Tensor) -> Tensor:
    """Copy into pinned memory without waiting; the copy is complete once the stream has passed it."""
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
