"""Loading of an encoder by its name, with every weight it needs: from a folder, or from the hub at a fixed commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layerprobe.probe.encoders.architectures import ARCHITECTURES, Architecture, read_adapter
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.examples import SHORT_SECONDS, example_waveform
from layerprobe.probe.encoders.language_adapters import check_language_adapters
from layerprobe.probe.encoders.speech import NEVER_READ, LoadedModel, SpeechEncoder
from layerprobe.probe.encoders.text import TEXT_ARCHITECTURES, load_text_encoder, reads_text
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.forward.precision import AUTO, precision_for
from layerprobe.probe.model_files import EXTRACTOR_FILES
from layerprobe.probe.model_tensors import check_tensors
from layerprobe.probe.pretrained import SPEECH_ENCODER, Pretrained, find_pretrained, first_pass
from layerprobe.probe.system import choose_device, torch_threads

OWN = "embedded"  # the name of the encoder that the package carries
ACOUSTIC = "acoustic"  # the name of the features without a network
EMBEDDED = Path(__file__).parents[1] / OWN


def load_encoder(
    name: str,
    *,
    random_init: int | None = None,
    device: str | None = None,
    adapter: Path | str | None = None,
    precision: str = AUTO,
    forward: str = AUTO,
    show_download: bool = True,
) -> AnyEncoder:
    """Load a speech or text encoder, or the acoustic features that serve as a baseline without a network.

    Args:
        name: a transformers folder, a hub name with an optional ``@revision``, ``embedded`` (the small HuBERT that the
            package carries), or ``acoustic`` (log-mel bands, MFCC, F0, loudness and duration)
        random_init: seed of random weights, initialised as the architecture does before training; None for trained
            weights
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        adapter: a Python file whose ``ARCHITECTURE`` describes an architecture that
            `probe.encoders.architectures` does not know; speech encoders only
        precision: of matrix products: float32 (exact on a GPU, too), tf32 (GPU; its inputs rounded to 10 bits),
            bfloat16 or float16 (GPU); auto takes 16 bits where the hardware multiplies them, which moves layers by
            about 1 %; text encoders run in float32
        forward: ``"packed"`` encodes utterances together, each as if it were alone, ``"single"`` one by one; auto packs
            them on a GPU
        show_download: whether the hub's progress bars are shown

    Returns:
        an encoder for `probe.extraction.extract.extract`; its ``reads`` is ``"audio"`` or ``"text"``

    Raises:
        InputError: if there is no such model, its architecture is unknown, a weight or a file is missing, or an
            option does not apply to this kind of encoder
    """
    mixed_precision = precision not in (AUTO, "float32")
    if name not in (ACOUSTIC, OWN) and adapter is None and reads_text(name):
        if mixed_precision:
            raise InputError("LP342", f"{name} is a text encoder, which runs in float32 only. Leave --precision out.")
        return load_text_encoder(
            name, random_init=random_init, device=device, forward=forward, show_download=show_download
        )
    if name != ACOUSTIC:
        return load_audio_encoder(
            name,
            random_init=random_init,
            device=device,
            adapter=adapter,
            precision=precision,
            forward=forward,
            show_download=show_download,
        )
    choices = {
        "--random-init": random_init is not None,
        "--adapter": adapter is not None,
        "--precision": mixed_precision,
        "--forward packed": forward == "packed",
    }
    chosen = ", ".join(option for option, is_chosen in choices.items() if is_chosen)
    if chosen:
        raise InputError("LP342", f"acoustic features have no weights: {chosen} can't be chosen. Leave that out.")
    _check_torchaudio()
    from layerprobe.probe.encoders.acoustic import AcousticEncoder

    return AcousticEncoder()


@dataclass(frozen=True)
class EncoderSettings:
    """Arguments of `load_encoder` as one value, which can be sent to other processes."""

    name: str
    random_init: int | None = None
    device: str | None = None
    adapter: Path | str | None = None
    precision: str = AUTO
    forward: str = AUTO

    def load(self, *, show_download: bool = True) -> AnyEncoder:
        """Load the encoder; errors as of `load_encoder`."""
        return load_encoder(
            self.name,
            random_init=self.random_init,
            device=self.device,
            adapter=self.adapter,
            precision=self.precision,
            forward=self.forward,
            show_download=show_download,
        )


def load_audio_encoder(
    name: str,
    *,
    random_init: int | None = None,
    device: str | None = None,
    adapter: Path | str | None = None,
    precision: str = AUTO,
    forward: str = AUTO,
    show_download: bool = True,
) -> SpeechEncoder:
    """Load a speech encoder from a folder or the hub; arguments as of `load_encoder`.

    Raises:
        InputError: if there is no such model, its architecture is unknown, or an encoder tensor is missing
    """
    device = choose_device(device)
    precision = precision_for(precision, device=device, known=adapter is None)
    loaded = load_model(name, random_init=random_init, adapter=adapter, show_download=show_download)
    with torch_threads(1), first_pass(f"encoder {name}", "one second of audio", files=EXTRACTOR_FILES[0]):
        encoder = SpeechEncoder(loaded, random_init=random_init, device=device, precision=precision, forward=forward)
        encoder.hidden_states(example_waveform(SHORT_SECONDS, sampling_rate=encoder.sampling_rate))
    return encoder


def load_model(
    name: str, *, random_init: int | None = None, adapter: Path | str | None = None, show_download: bool = True
) -> LoadedModel:
    """Load a speech model in float32 without changing it; arguments and errors as of `load_audio_encoder`."""
    _check_torchaudio()
    found = find_pretrained(name, SPEECH_ENCODER, folder=EMBEDDED if name == OWN else None, show_download=show_download)
    config = found.config()
    family, adapter_hash = _family(config, name, adapter)
    extractor, is_default = _feature_extractor(found, config, family)
    language = ""
    if random_init is None:
        model, report = found.model(config)
        with found.loading():
            encoder = family.encoder(model)
            check_tensors(found.label, model, report, needed=family.tensors, ignored=NEVER_READ)
            language = check_language_adapters(found, encoder)
    else:
        model = found.untrained(config, seed=random_init)
    upstream = name if name == OWN else found.upstream
    if upstream == OWN != name:
        upstream = f"{found.folder.resolve().parent.name}/{OWN}"  # a user's folder of that name is another encoder
    folder = "" if name == OWN else found.local_folder
    revision = found.revision or ""
    return LoadedModel(model, family, extractor, upstream, revision, adapter_hash, is_default, folder, language)


def check_forward(loaded: LoadedModel, name: str) -> None:
    """Run a speech model of `load_model` on one second of audio, as `load_audio_encoder` does for its encoder.

    Raises:
        InputError: if that fails
    """
    with first_pass(f"encoder {name}", "one second of audio", files=EXTRACTOR_FILES[0]), torch.inference_mode():
        encoder: Any = loaded.family.encoder(loaded.model)
        was_training = encoder.training
        encoder.eval()
        audio = example_waveform(SHORT_SECONDS, sampling_rate=loaded.extractor.sampling_rate)
        for chunk in loaded.family.input_chunks(audio, loaded.extractor, encoder.config):
            encoder(**chunk.inputs)
        encoder.train(was_training)


def _family(config: Any, name: str, adapter: Path | str | None) -> tuple[Architecture, str]:
    """Return the architecture of a model and, where an adapter describes it, that file's hash."""
    if adapter is not None:
        return read_adapter(Path(adapter))
    if config.model_type not in ARCHITECTURES:
        raise InputError(
            "LP330",
            f"encoder {name} is a {config.model_type!r} model; supported are {', '.join(sorted(ARCHITECTURES))}, "
            f"and for text {', '.join(sorted(TEXT_ARCHITECTURES))}. "
            "For another, write an adapter (probe/encoders/architectures.py has one to start from) and name it with "
            "--adapter.",
        )
    return ARCHITECTURES[config.model_type], ""


def _feature_extractor(found: Pretrained, config: Any, family: Architecture) -> tuple[Any, bool]:
    """Return the checkpoint's feature extractor, or its architecture's default and True where it has none."""
    if found.has_file(*EXTRACTOR_FILES):
        return found.feature_extractor(), False
    default = family.default_extractor(config)
    if default is None:
        raise InputError(
            "LP304",
            f"encoder {found.name} has no {EXTRACTOR_FILES[0]}, and {config.model_type} models have no common default: "
            "whether it was trained on normalised waveforms is not known. Add that file from the checkpoint that it "
            "derives from.",
        )
    return default, True


def _check_torchaudio() -> None:
    """Import torchaudio, without which transformers can't load speech models and reports another cause."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        raise InputError(
            "LP355",
            f"torchaudio can't be imported with torch {torch.__version__} ({error}). "
            "Install versions that fit: pip install 'torch>=2.11,<2.15' 'torchaudio>=2.11,<2.12'.",
        ) from error
