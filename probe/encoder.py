"""Speech upstreams: a waveform becomes the hidden states of every layer.

The layer convention: layer 0 enters the first transformer block, layer k leaves block k before any final norm, so
twelve blocks give thirteen layers, counted from 0 and never from the end. Encoders that normalise before each
block have one state more, ``final``, after their final norm. The states are taken by hooks on the blocks, because
transformers 5 changed what its own last hidden state of these encoders is (before the norm; in 4, after it). Scales
differ by layer in such encoders: standardise each layer on the training speakers before comparing.

Only this file and `probe.families` know transformers for sound.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from torch import Tensor, nn

from probe.errors import InputError
from probe.families import FAMILIES, Family, read_adapter, whole_waveform
from probe.lean_encoder import LeanEncoder, is_lean

LAYER_CONVENTION = "0 enters the first block, k leaves block k, final after the final norm"
EMBEDDED = Path(__file__).parent / "embedded"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # of the matrix products
# Replaces masked frames in pre-training; no forward pass that probes ever reads it.
NEVER_READ = frozenset({"masked_spec_embed"})


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
        adapter: str = "",
        precision: str = "float32",
    ) -> None:
        """Take the encoder out of ``model`` (float32), put it on ``device``, in eval mode for good."""
        encoder: Any = family.encoder(model)
        self._encoder: Any = encoder.float().eval().requires_grad_(False).to(device)
        self.blocks = family.blocks(self._encoder)
        self._final_norm = family.final_norm(self._encoder)
        self._extractor = extractor
        self._device = device
        self._family = family
        self._config: Any = encoder.config
        self.upstream = upstream
        self.adapter = adapter
        self.precision = precision
        lean = device == "cpu" and not adapter and is_lean(encoder)
        if precision != "float32" and not lean:
            raise InputError(
                f"{precision} is for HuBERT, wav2vec 2.0 and UniSpeech on the CPU, not for {type(encoder).__name__} "
                f"on {device}. Leave --precision out to hear it in float32."
            )
        self._lean = LeanEncoder(encoder, dtype=PRECISIONS[precision]) if lean else None
        self.revision = revision
        self.random_init = random_init
        self.architecture = type(self._encoder).__name__
        self.sampling_rate: int = extractor.sampling_rate
        blocks = tuple(str(k) for k in range(len(self.blocks) + 1))
        self.layers = blocks if self._final_norm is None else (*blocks, "final")
        self.dim = int(encoder.config.hidden_size)

    @property
    def forward(self) -> str:
        """Whose forward pass is run: our own, written out, or that of transformers."""
        return "written out" if self._lean else "transformers"

    @property
    def hears_waveforms(self) -> bool:
        """Whether it is called with samples, so that sounds of different lengths could be padded into a batch."""
        return self._family.pieces is whole_waveform

    def modules(self) -> Iterator[nn.Module]:
        """Every module of the encoder."""
        yield from self._encoder.modules()

    @property
    def minimum_samples(self) -> int:
        """Samples that one frame needs, 400 (25 ms) in most encoders."""
        return self._family.minimum_samples(self._extractor, self._config)

    @property
    def long_sound(self) -> str:
        """How long sound is heard."""
        return self._family.long_sound(self._extractor)

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
            for each name of `layers` the frames of the sound itself, ``(n_frames, dim)``, one every 20 ms in most

        Raises:
            ValueError: if the waveform is not one-dimensional or is too short
        """
        if self._lean is None:
            return self.reference_states(waveform)
        self._refuse_unfit(waveform)
        (piece,) = self._family.pieces(waveform, self._extractor, self._config)
        return self._lean.hidden_states(piece.inputs["input_values"][0])

    @torch.inference_mode()
    def reference_states(self, waveform: np.ndarray) -> list[Tensor]:
        """The same by transformers' own forward pass in float32, read by hooks; arguments as in `hidden_states`."""
        self._refuse_unfit(waveform)
        heard = []
        for piece in self._family.pieces(waveform, self._extractor, self._config):
            heard.append([states[0, : piece.n_valid_frames] for states in self._run(piece.inputs)])
        return [torch.cat(layer) for layer in zip(*heard, strict=True)]

    def _refuse_unfit(self, waveform: np.ndarray) -> None:
        if waveform.ndim != 1 or len(waveform) < self.minimum_samples:
            raise ValueError(f"waveform {waveform.shape} is not (n_samples,) with at least {self.minimum_samples}")

    @torch.inference_mode()
    def padded_hidden_states(self, waveforms: list[np.ndarray], *, masked: bool) -> list[Tensor]:
        """As usual toolkits hear a batch, to measure what that costs; extraction never does.

        Args:
            waveforms: ``(n_samples,)`` each, at `sampling_rate`
            masked: whether the attention mask says where each ends

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
        with warnings.catch_warnings():  # WavLM mixes two kinds of mask, which torch is about to forbid
            warnings.filterwarnings("ignore", message="Support for mismatched", category=UserWarning)
            return self._run(dict(inputs))

    def _run(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """All frames of each layer, ``n_layers`` tensors ``(n_inputs, n_frames, dim)``."""
        states: list[Tensor] = []

        def enters(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            states.append(args[0] if args else kwargs["hidden_states"])

        def leaves(_: nn.Module, __: Any, output: Any) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)

        handles = [self.blocks[0].register_forward_pre_hook(enters, with_kwargs=True)]
        read = [*self.blocks] if self._final_norm is None else [*self.blocks, self._final_norm]
        handles += [module.register_forward_hook(leaves) for module in read]
        try:
            self._encoder(**{name: tensor.to(self._device) for name, tensor in inputs.items()})
        finally:
            for handle in handles:
                handle.remove()
        if len(states) != len(self.layers):
            raise RuntimeError(f"{self.architecture} gave {len(states)} states for {len(self.layers)} layers")
        return [state.float() for state in states]


def load_encoder(
    name: str,
    *,
    random_init: int | None = None,
    device: str | None = None,
    adapter: Path | str | None = None,
    precision: str = "float32",
    show_download: bool = True,
) -> SpeechEncoder:
    """Load a speech encoder from a folder or the hub, with every weight it needs.

    Args:
        name: a transformers folder, a hub name with an optional ``@revision``, or ``embedded``
        random_init: seed for weights drawn as the architecture draws them before training; None for trained ones
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        adapter: a file whose ``FAMILY`` takes an architecture apart that `probe.families` does not know
        precision: a key of `PRECISIONS`; bfloat16 where the processor multiplies such matrices, within about 1 %
        show_download: whether the hub's own bars are shown

    Raises:
        InputError: if nothing is found there, the architecture is unknown, or an encoder tensor is missing
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
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
            family, adapter_hash = _family(config, name, adapter)
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
        adapter=adapter_hash,
        precision=precision,
    )


def _hub_commit(name: str) -> tuple[str, str]:
    """Repository and commit of a hub name with an optional ``@revision``; a name that moves is settled once."""
    repository, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repository.count("/") > 1:
        raise InputError(f"encoder {name}: no such folder. Give a transformers folder or a hub name.")
    config = hf_hub_download(repository, "config.json", revision=revision or None)
    return repository, Path(config).parent.name


def _family(config: Any, name: str, adapter: Path | str | None) -> tuple[Family, str]:
    """The family of an architecture and, where an adapter tells it, that file's hash."""
    if adapter is not None:
        return read_adapter(Path(adapter))
    if config.model_type not in FAMILIES:
        raise InputError(
            f"encoder {name} is a {config.model_type!r} model; layers can be read of {', '.join(sorted(FAMILIES))}. "
            "For another, write an adapter (probe/families.py has one to start from) and name it with --adapter."
        )
    return FAMILIES[config.model_type], ""


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
