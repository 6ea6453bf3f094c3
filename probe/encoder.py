"""Speech upstreams: a waveform becomes the hidden states of every layer.

The layer convention: layer 0 enters the first transformer block, layer k leaves block k before any final norm, so
twelve blocks give thirteen layers, counted from 0 and never from the end. Encoders that normalise before each
block have one state more, ``final``, after their final norm. The states are taken by hooks on the blocks, because
transformers 5 changed what its own last hidden state of these encoders is (before the norm; in 4, after it). Scales
differ by layer in such encoders: standardise each layer on the training speakers before comparing.

This is the only file that knows transformers for sound.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from torch import Tensor, nn

from probe.errors import InputError

LAYER_CONVENTION = "0 enters the first block, k leaves block k, final after the final norm"
EMBEDDED = Path(__file__).parent / "embedded"
# Replaces masked frames in pre-training; no forward pass that probes ever reads it.
NEVER_READ = frozenset({"masked_spec_embed"})


@dataclass(frozen=True)
class Family:
    """Where one transformers architecture keeps its encoder, its blocks and its final norm."""

    encoder: Callable[[Any], nn.Module]  # what is called, out of what transformers loads
    tensors: str  # prefix of the encoder's tensors in what transformers loads
    blocks: Callable[[Any], nn.ModuleList]  # of the encoder
    final_norm: Callable[[Any], nn.Module | None]  # of the encoder; None where each block ends with its own
    hears: str  # "waveform", or "log-mel" in windows of fixed length


def _wav2vec2_final_norm(encoder: Any) -> nn.Module | None:
    return encoder.encoder.layer_norm if encoder.config.do_stable_layer_norm else None


_WAV2VEC2 = Family(
    encoder=lambda model: model,
    tensors="",
    blocks=lambda encoder: encoder.encoder.layers,
    final_norm=_wav2vec2_final_norm,
    hears="waveform",
)
_WHISPER = Family(
    encoder=lambda model: model.encoder,
    tensors="encoder.",
    blocks=lambda encoder: encoder.layers,
    final_norm=lambda encoder: encoder.layer_norm,
    hears="log-mel",
)
FAMILIES = {"hubert": _WAV2VEC2, "wav2vec2": _WAV2VEC2, "wavlm": _WAV2VEC2, "whisper": _WHISPER}


class SpeechEncoder:
    """A frozen speech encoder in float32 whose layers are read; made by `load_encoder`."""

    def __init__(
        self,
        model: Any,
        family: Family,
        extractor: Any,
        *,
        upstream: str,
        revision: str = "",
        random_init: int | None = None,
        device: str = "cpu",
    ) -> None:
        """Take the encoder out of ``model`` (float32), put it on ``device``, in eval mode for good."""
        self._encoder: Any = family.encoder(model).float().eval().requires_grad_(False).to(device)
        self._blocks = family.blocks(self._encoder)
        self._final_norm = family.final_norm(self._encoder)
        self._extractor = extractor
        self._device = device
        self._hears = family.hears
        self._config: Any = model.config
        self.upstream = upstream
        self.revision = revision
        self.random_init = random_init
        self.architecture = type(self._encoder).__name__
        self.sampling_rate: int = extractor.sampling_rate
        blocks = tuple(str(k) for k in range(len(self._blocks) + 1))
        self.layers = blocks if self._final_norm is None else (*blocks, "final")
        self.dim: int = self._config.hidden_size

    @property
    def minimum_samples(self) -> int:
        """Samples that one frame needs: 400, that is 25 ms, in every published encoder of these families."""
        if self._hears == "log-mel":
            return int(self._extractor.n_fft)
        needed = 1
        for kernel, stride in zip(self._config.conv_kernel[::-1], self._config.conv_stride[::-1], strict=True):
            needed = (needed - 1) * stride + kernel
        return needed

    @property
    def long_sound(self) -> str:
        """How sound longer than one pass is heard."""
        if self._hears == "log-mel":
            return f"windows of {self._extractor.chunk_length} s, frames of the sound alone"
        return "one piece"

    @property
    def preprocessing(self) -> str:
        """What the feature extractor does to a waveform, as sorted JSON."""
        settings = self._extractor.to_dict()
        naming = ("feature_extractor_type", "processor_class", "image_processor_type")
        return json.dumps({k: v for k, v in settings.items() if k not in naming}, sort_keys=True, default=str)

    def weights_hash(self) -> str:
        """Sixteen hex digits over name, shape and bytes of every tensor of the encoder."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._encoder.state_dict().items()):
            if name not in NEVER_READ:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def hidden_states(self, waveform: np.ndarray) -> list[Tensor]:
        """Every layer's frames of one utterance, heard alone: no padding can reach it.

        Args:
            waveform: ``(n_samples,)`` float32 at `sampling_rate`, at least `minimum_samples` long

        Returns:
            for each name of `layers` the frames of the sound itself, ``(n_frames, dim)``, one every 20 ms

        Raises:
            ValueError: if the waveform is not one-dimensional or is too short
        """
        if waveform.ndim != 1 or len(waveform) < self.minimum_samples:
            raise ValueError(f"waveform {waveform.shape} is not (n_samples,) with at least {self.minimum_samples}")
        if self._hears == "waveform":
            inputs = self._extractor(waveform, sampling_rate=self.sampling_rate, return_tensors="pt")
            return self._run(inputs.input_values)
        # The window is always 30 s; a frame spans 320 samples and counts where it begins within the sound.
        window = self._extractor.n_samples
        stride = window // self._config.max_source_positions
        pieces = []
        for begin in range(0, len(waveform), window):
            piece = waveform[begin : begin + window]
            inputs = self._extractor(piece, sampling_rate=self.sampling_rate, return_tensors="pt")
            n_valid_frames = -(-len(piece) // stride)
            pieces.append([states[:n_valid_frames] for states in self._run(inputs.input_features)])
        return [torch.cat(layer) for layer in zip(*pieces, strict=True)]

    def _run(self, inputs: Tensor) -> list[Tensor]:
        """All frames of each layer for one input, ``n_layers`` tensors ``(n_frames, dim)``."""
        states: list[Tensor] = []

        def enters(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states.append(args[0] if args else kwargs["hidden_states"])

        def leaves(_: nn.Module, __: Any, output: Any) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)

        handles = [self._blocks[0].register_forward_pre_hook(enters, with_kwargs=True)]
        read = [*self._blocks] if self._final_norm is None else [*self._blocks, self._final_norm]
        handles += [module.register_forward_hook(leaves) for module in read]
        try:
            self._encoder(inputs.to(self._device))
        finally:
            for handle in handles:
                handle.remove()
        if len(states) != len(self.layers):
            raise RuntimeError(f"{self.architecture} gave {len(states)} states for {len(self.layers)} layers")
        return [state[0].float() for state in states]


def load_encoder(
    name: str, *, random_init: int | None = None, device: str | None = None, show_download: bool = True
) -> SpeechEncoder:
    """Load a speech encoder from a folder or the hub, with every weight it needs.

    Args:
        name: a transformers folder, a hub name with an optional ``@revision``, or ``embedded``
        random_init: seed for weights drawn as the architecture draws them before training; None for trained ones
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        show_download: whether the hub's own bars are shown

    Raises:
        InputError: if nothing is found there, the architecture is unknown, or an encoder tensor is missing
    """
    _check_torchaudio()
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    folder = EMBEDDED if name == "embedded" else Path(name)
    local = folder.is_dir()
    if name == "embedded" and random_init is None:
        raise InputError("the embedded encoder has no trained weights yet. Add --random-init SEED.")
    # the process's own chance is left alone: loading draws weights too, before it replaces them
    with _quiet_transformers(bars=show_download and not local), torch.random.fork_rng(devices=[]):
        try:
            source, revision = (str(folder), None) if local else _hub_commit(name)
            config = AutoConfig.from_pretrained(source, revision=revision)
            family = _family(config, name)
            extractor = AutoFeatureExtractor.from_pretrained(source, revision=revision)
            if random_init is None:
                model, report = AutoModel.from_pretrained(
                    source, revision=revision, dtype=torch.float32, output_loading_info=True
                )
                _refuse_missing(report["missing_keys"], family, name)
            else:
                torch.manual_seed(random_init)
                model = AutoModel.from_config(config)
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(_why_not_loaded(name, folder, error)) from error
    return SpeechEncoder(
        model,
        family,
        extractor,
        upstream=name if name == "embedded" else folder.resolve().name if local else source,
        revision=revision or "",
        random_init=random_init,
        device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
    )


def _hub_commit(name: str) -> tuple[str, str]:
    """Repository and commit of a hub name with an optional ``@revision``; a name that moves is settled once."""
    repository, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repository.count("/") > 1:
        raise InputError(f"encoder {name}: no such folder. Give a transformers folder or a hub name.")
    config = hf_hub_download(repository, "config.json", revision=revision or None)
    return repository, Path(config).parent.name


def _family(config: Any, name: str) -> Family:
    if config.model_type not in FAMILIES:
        raise InputError(
            f"encoder {name} is a {config.model_type!r} model; layers can be read of {', '.join(sorted(FAMILIES))}."
        )
    return FAMILIES[config.model_type]


def _refuse_missing(missing: set[str], family: Family, name: str) -> None:
    needed = sorted(k for k in missing if k.startswith(family.tensors) and k not in NEVER_READ)
    if needed:
        others = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise InputError(
            f"encoder {name}: the checkpoint lacks {needed[0]}{others}, which would be filled at random. "
            "Take a whole checkpoint, or ask for untrained weights with --random-init SEED."
        )


def _why_not_loaded(name: str, folder: Path, error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0].rstrip(".")
    if folder.is_dir():
        return (
            f"encoder {name} can't be loaded: {first_line}. A transformers folder holds config.json, "
            "preprocessor_config.json and the weights."
        )
    return (
        f"encoder {name} is no folder here, and the hub did not give it: {first_line}. "
        "Check the spelling, or the connection (HF_HUB_OFFLINE=1 allows only what is already downloaded)."
    )


def _check_torchaudio() -> None:
    """Transformers imports its speech models through torchaudio, whose failure it reports as something else."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            f"torchaudio can't be imported beside torch {torch.__version__} ({error}). "
            "Install a pair that fits: pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'."
        ) from error


@contextmanager
def _quiet_transformers(*, bars: bool) -> Iterator[None]:
    """Keep its reports, and its bars unless wanted, off the terminal; our own errors say what matters of them."""
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
