"""Speech encoders: a waveform becomes the hidden states of every layer.

The layer convention: layer 0 enters the first transformer block, layer k leaves block k before any final norm, so
twelve blocks give thirteen layers, counted from 0 and never from the end. Encoders that normalise before each
block have one state more, ``final``, after their final norm. The states are taken by hooks on the blocks, because
transformers 5 changed what its own last hidden state of the wav2vec 2.0 kind is (before the norm; in 4, after it).
Scales differ by layer in such encoders: standardise each layer on the training speakers before comparing.

Only this file, `probe.encoders.architectures`, `probe.forward.hooks`, `probe.forward.native`,
`probe.forward.plain_modules`, `probe.forward.packed` and `probe.encoders.loading` know transformers for audio;
`probe.encoders.text` does for text.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from layerprobe.probe.encoders.architectures import Architecture, waveform_chunks
from layerprobe.probe.encoders.base import describe_encoder
from layerprobe.probe.encoders.examples import SHORT_SECONDS, example_lengths, example_waveform
from layerprobe.probe.encoders.identity import code_hash, model_hash
from layerprobe.probe.encoders.packing import PackableEncoder, join_frame_chunks
from layerprobe.probe.forward.chunks import FrameChunk, InputChunk
from layerprobe.probe.forward.frame_times import FrameTimes
from layerprobe.probe.forward.hooks import HookedEncoder
from layerprobe.probe.forward.linear_kernels import MixedPrecisionLinears
from layerprobe.probe.forward.native import NativeForward, has_native_forward
from layerprobe.probe.forward.packed.choose import PackedChoice, choose_batches, own_pass, try_own
from layerprobe.probe.forward.packed.pack import PackedForward
from layerprobe.probe.forward.pooling import DEFAULT_POOLINGS
from layerprobe.probe.forward.precision import AUTO, PRECISIONS, is_packed, multiplying_in, precision_for, steps_in
from layerprobe.probe.model_alignment import align_weights
from layerprobe.probe.system import torch_threads

LAYER_CONVENTION = "0 enters the first block, k leaves block k, final after the final norm"
# Replaces masked frames in pre-training; no forward pass that probes ever reads it.
NEVER_READ = frozenset({"masked_spec_embed"})


@dataclass(frozen=True)
class LoadedModel:
    """A model that transformers loaded, with its feature extractor, its `Architecture` and its origin."""

    model: Any
    family: Architecture
    extractor: Any
    upstream: str  # the hub's name, or the folder's
    revision: str  # the hub's commit; "" for a folder
    adapter: str  # hash of the adapter; "" without one
    has_default_extractor: bool = False  # because the checkpoint lacks the file with its own
    folder: str = ""  # absolute path of a local one; "" for the hub's and for those that the package carries
    language_adapter: str = ""  # whose adapter is part of the weights, where a folder has several (MMS)
    weights: str = ""  # hashes of base and adapter where a PEFT adapter was merged; "" for the hash of all tensors
    weights_note: str = ""  # on a merged adapter or a head that is left out

    @property
    def preprocessing_note(self) -> str:
        """Sentences on what is not as the reader may expect; empty if nothing is.

        They are on a default feature extractor, a language's adapter in use, a merged adapter, and a head.
        """
        return " ".join(filter(None, [self._extractor_note, self.weights_note]))

    @property
    def _extractor_note(self) -> str:
        if not self.has_default_extractor:
            used = f"{self.upstream}: the adapter of the language {self.language_adapter!r} is part of its weights."
            return used if self.language_adapter else ""
        extractor = self.extractor
        normalised = getattr(extractor, "do_normalize", False)
        scaling = "each waveform scaled to zero mean and unit variance" if normalised else "waveforms not normalised"
        reads_waveforms = self.family.input_chunks is waveform_chunks
        shape = scaling if reads_waveforms else f"{extractor.feature_size} log-mel bands"
        return (
            f"{self.upstream} has no preprocessor_config.json: the default feature extractor of its architecture is "
            f"used ({type(extractor).__name__}, {extractor.sampling_rate} Hz, {shape})."
        )


class SpeechEncoder(PackableEncoder):
    """A frozen speech encoder that returns the hidden states of all layers; `load_audio_encoder` makes it."""

    reads: Literal["audio"] = "audio"
    default_poolings = DEFAULT_POOLINGS

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        random_init: int | None = None,
        device: str = "cpu",
        precision: str = AUTO,
        forward: str = AUTO,
    ) -> None:
        """Take the encoder out of a model (float32) and move it to ``device``, in evaluation mode."""
        family, extractor, adapter = loaded.family, loaded.extractor, loaded.adapter
        encoder: Any = family.encoder(loaded.model)
        self._encoder: Any = encoder.float().eval().requires_grad_(False)
        align_weights(encoder)
        # on a GPU before the weights go there, so that none has to come back
        self._weights_hash = loaded.weights or (self._hash() if device != "cpu" else None)
        self._encoder.to(device)
        self.device = device
        self._extractor, self._family = extractor, family
        self._has_default_extractor = loaded.has_default_extractor
        self.preprocessing_note = loaded.preprocessing_note
        self._config: Any = encoder.config
        self.upstream, self.revision, self.adapter = loaded.upstream, loaded.revision, adapter
        self.folder = loaded.folder
        self.random_init = random_init
        self.precision = precision_for(precision, device=device, known=not adapter)
        dtype = PRECISIONS[self.precision]
        packs = is_packed(forward, device=device)
        native = device == "cpu" and not packs and not adapter and has_native_forward(encoder)
        # so that what is precomputed from the weights is the same on any number of cores
        with torch_threads(1), multiplying_in(self.precision):
            self._native = NativeForward(encoder, dtype=dtype) if native else None
            self._own_pass = None if adapter else own_pass(encoder)
            self.packed: PackedForward | None = None
            if packs and self._own_pass is not None:
                self.packed = self._own_pass(encoder, self._n_frames, dtype=dtype)
        plain = native or self.packed is not None or dtype == torch.float32
        self._mixed_precision = None if plain else MixedPrecisionLinears(self._encoder, dtype)
        self._hooked = HookedEncoder(self._encoder, family.blocks(encoder), family.final_norm(encoder))
        self.packing_note = ""  # why utterances are encoded singly where packing was wanted
        if packs and self.packed is None:
            with torch_threads(1):
                choice = self._choose_batches(self._examples())
            self.packed, self.packing_note = choice.forward, choice.refusal
        self.architecture = type(self._encoder).__name__
        self.sampling_rate: int = extractor.sampling_rate
        self.layers = self._hooked.layers
        self.dim = int(encoder.config.hidden_size)

    def __repr__(self) -> str:
        return describe_encoder(self)

    @property
    def blocks(self) -> nn.ModuleList:
        """Transformer blocks, whose inputs and outputs are the layers."""
        return self._hooked.blocks

    @property
    def forward(self) -> str:
        """Which forward pass runs: ``native``, this package's own, that of ``transformers``, or a packed one's name."""
        if self.packed is not None:
            return self.packed.name
        return "native" if self._native else "transformers"

    @property
    def is_reference(self) -> bool:
        """Whether `hidden_states` is `reference_states`: transformers' forward pass in float32."""
        return self._native is None and self.packed is None and self.precision == "float32"

    @property
    def reads_waveforms(self) -> bool:
        """Whether its input are samples, so that recordings of different lengths could be padded into a batch."""
        return self._family.input_chunks is waveform_chunks

    def modules(self) -> Iterator[nn.Module]:
        """Yield every module of the encoder."""
        yield from self._encoder.modules()

    @property
    def minimum_samples(self) -> int:
        """Number of samples that one frame needs, 400 (25 ms) in most encoders."""
        return self._family.minimum_samples(self._extractor, self._config)

    @property
    def frame_times(self) -> FrameTimes | None:
        """Centres of the frames in samples; None where an adapter does not state them."""
        times = self._family.frame_times
        return None if times is None else times(self._extractor, self._config)

    @property
    def chunking(self) -> str:
        """How long audio is cut into chunks, as the plan records it."""
        return self._family.chunking(self._extractor)

    @property
    def preprocessing(self) -> str:
        """Settings of the feature extractor, as sorted JSON; ``architecture_default`` marks an assumed one."""
        settings = self._extractor.to_dict() | ({"architecture_default": True} if self._has_default_extractor else {})
        if code := code_hash(self._extractor):
            settings["code"] = code
        naming = ("feature_extractor_type", "processor_class", "_processor_class", "image_processor_type")
        return json.dumps({k: v for k, v in settings.items() if k not in naming}, sort_keys=True, default=str)

    def weights_hash(self) -> str:
        """Return sixteen hex digits over the encoder's tensors, its configuration and its own code; computed once.

        Of a base model with a merged PEFT adapter there are sixteen of each, joined by ``+``.
        """
        if self._weights_hash is None:
            self._weights_hash = self._hash()
        return self._weights_hash

    def _hash(self) -> str:
        return model_hash(self._encoder, never_read=NEVER_READ)

    def frame_chunks(self, waveform: np.ndarray) -> Iterator[FrameChunk]:
        """Encode one utterance without a batch, so that no padding and no other utterance can change it.

        Args:
            waveform: ``(n_samples,)`` float32 at `sampling_rate`, at least `minimum_samples` long

        Yields:
            the frames of each of `layers` for each chunk of the audio, a single chunk if it is not long: a frame every
            20 ms in most encoders, those of the audio itself, each counted once

        Raises:
            ValueError: if the waveform is not one-dimensional or is too short
        """
        if self.packed is not None:
            return self._frame_chunks(waveform, self._packed_states, self.precision)
        if self._native is not None:
            return self._frame_chunks(waveform, self._native_states, self.precision)
        return self._frame_chunks(waveform, self._batch_of_one, self.precision)

    def input_chunks(self, waveform: np.ndarray) -> list[InputChunk]:
        """Return the inputs of the forward passes of one utterance, on the host; arguments as of `frame_chunks`."""
        self._check_waveform(waveform)
        return list(self._family.input_chunks(waveform, self._extractor, self._config))

    def hidden_states(self, waveform: np.ndarray) -> list[Tensor]:
        """Return all frames of each layer, one tensor ``(n_frames, dim)`` each; arguments as of `frame_chunks`."""
        return join_frame_chunks(self.frame_chunks(waveform))

    def reference_states(self, waveform: np.ndarray) -> list[Tensor]:
        """Return what `hidden_states` does, from transformers' own forward pass in float32."""
        return join_frame_chunks(self._frame_chunks(waveform, self._reference_states, "float32"))

    @torch.inference_mode()
    def _frame_chunks(
        self, waveform: np.ndarray, run: Callable[[InputChunk], Iterator[Tensor]], precision: str
    ) -> Iterator[FrameChunk]:
        self._check_waveform(waveform)
        for input_chunk in self._family.input_chunks(waveform, self._extractor, self._config):
            layers = (states[input_chunk.counted] for states in steps_in(precision, run(input_chunk)))
            yield FrameChunk(layers, input_chunk.first, input_chunk.total)

    @torch.inference_mode()
    def _native_states(self, input_chunk: InputChunk) -> Iterator[Tensor]:
        if self._native is None:
            raise RuntimeError("the encoder has no native forward pass")
        yield from self._native.hidden_states(input_chunk.inputs["input_values"][0])

    def _batch_states(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Return each layer's frames of a batch, ``(n_inputs, n_frames, dim)``, in the encoder's precision."""
        if self._mixed_precision is None:
            return self._hooked.states(inputs)
        with self._mixed_precision.enabled():
            return self._hooked.states(inputs)

    def _n_frames(self, chunk: InputChunk) -> int:
        """Return the number of frames of a chunk, in which masked ones and those of other chunks are."""
        return self._family.n_frames(chunk, self._config)

    def packed_choice(self) -> PackedChoice:
        """Return which pass ``--forward packed`` takes, which is the default on a GPU, with its error in float32."""
        examples = self._examples()
        if self._own_pass is None:
            return self._choose_batches(examples)
        with multiplying_in("float32"):
            own = self._own_pass(self._encoder, self._n_frames, dtype=torch.float32)
            return try_own(own, exact=self._hooked.states, examples=examples)

    def _choose_batches(self, examples: Sequence[InputChunk]) -> PackedChoice:
        run, exact = self._batch_states, self._hooked.states
        with multiplying_in("float32"):
            return choose_batches(self._config, run=run, exact=exact, n_frames=self._n_frames, examples=examples)

    def _examples(self) -> list[InputChunk]:
        """Return chunks on which passes of several utterances are tried."""
        rate = self._extractor.sampling_rate
        waveform = example_waveform(2 * SHORT_SECONDS + self.minimum_samples / rate, sampling_rate=rate)
        lengths = example_lengths(
            lambda n: sum(map(self._n_frames, self.input_chunks(waveform[:n]))),
            shortest=self.minimum_samples,
            sampling_rate=rate,
        )
        parts = [waveform[:n] for n in lengths] + [waveform[-lengths[-1] :]]  # the last two of the same length
        return [chunk for part in parts for chunk in self.input_chunks(part)]

    @torch.inference_mode()
    def _batch_of_one(self, input_chunk: InputChunk) -> Iterator[Tensor]:
        yield from (states[0] for states in self._batch_states(input_chunk.inputs))

    @torch.inference_mode()
    def _reference_states(self, input_chunk: InputChunk) -> Iterator[Tensor]:
        yield from (states[0] for states in self._hooked.states(input_chunk.inputs))

    def _check_waveform(self, waveform: np.ndarray) -> None:
        if waveform.ndim != 1 or len(waveform) < self.minimum_samples:
            raise ValueError(f"waveform {waveform.shape} is not (n_samples,) with at least {self.minimum_samples}")

    @torch.inference_mode()
    def padded_hidden_states(self, waveforms: list[np.ndarray], *, masked: bool) -> list[Tensor]:
        """Encode a padded batch as other toolkits do, to measure the error of that; extraction never does.

        Args:
            waveforms: ``(n_samples,)`` each, at `sampling_rate`
            masked: whether the attention mask marks where each ends

        Returns:
            for each layer all frames, padding included, ``(n_waveforms, n_frames, dim)``
        """
        inputs = self._extractor(
            waveforms,
            sampling_rate=self.sampling_rate,
            return_tensors="pt",
            padding=True,
            return_attention_mask=masked,
        )
        with multiplying_in("float32"), warnings.catch_warnings():
            # WavLM mixes two kinds of mask, which torch is about to forbid
            warnings.filterwarnings("ignore", message="Support for mismatched", category=UserWarning)
            return self._hooked.states(dict(inputs))
