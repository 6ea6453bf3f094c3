"""Loading of an encoder by its name, with every weight it needs: from a folder, or from the hub at a fixed commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layerprobe.probe.encoders.architectures import ARCHITECTURES, Architecture
from layerprobe.probe.encoders.base import AnyEncoder
from layerprobe.probe.encoders.embedded import OWN, embedded_folder
from layerprobe.probe.encoders.examples import SHORT_SECONDS, example_waveform
from layerprobe.probe.encoders.foreign_checkpoints import foreign_extractor, foreign_model, read_foreign
from layerprobe.probe.encoders.foreign_names import is_foreign
from layerprobe.probe.encoders.language_adapters import check_language_adapters
from layerprobe.probe.encoders.peft_merging import merge_adapter
from layerprobe.probe.encoders.shipped import architecture_of_folder, chosen_architecture
from layerprobe.probe.encoders.speech import NEVER_READ, LoadedModel, SpeechEncoder
from layerprobe.probe.encoders.text import TEXT_ARCHITECTURES, load_text_encoder, reads_text
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.forward.precision import AUTO, precision_for
from layerprobe.probe.hub import quiet_transformers
from layerprobe.probe.model_errors import first_pass
from layerprobe.probe.model_files import EXTRACTOR_FILES
from layerprobe.probe.model_tensors import check_tensors, foreign_prefix, head_note, head_tensors
from layerprobe.probe.pretrained import SPEECH_ENCODER, Pretrained, find_pretrained
from layerprobe.probe.system import choose_device, torch_threads

ACOUSTIC = "acoustic"  # the name of the features without a network


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
        name: a transformers folder, a hub name with an optional ``@revision``, either of a model or of a PEFT adapter,
            which is merged into its base; a checkpoint's file of torchaudio, fairseq or s3prl (``.pt``, ``.pth``), or
            ``torchaudio:HUBERT_BASE`` and other bundles of torchaudio; ``embedded`` (a small HuBERT, whose weights are
            the package ``layerprobe-embedded``), or ``acoustic`` (log-mel bands, MFCC, F0, loudness and duration)
        random_init: seed of random weights, initialised as the architecture does before training; None for trained
            weights
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        adapter: a Python file whose ``ARCHITECTURE`` describes an architecture that
            `probe.encoders.architectures` does not know, or the name of one that an installed package ships
            (`probe.encoders.shipped`); speech encoders only
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
    described = None if adapter is None else chosen_architecture(adapter)
    if described is not None and described[0].load is not None:
        return _load_by_adapter(name, described, random_init=random_init)
    if is_foreign(name):
        return _load_foreign(name, random_init=random_init, described=described)
    own = embedded_folder(trained=random_init is None) if name == OWN else None
    found = find_pretrained(name, SPEECH_ENCODER, folder=own, show_download=show_download)
    if described is None:
        described = architecture_of_folder(found.folder)
        if described is not None and described[0].load is not None:
            return _load_by_adapter(name, described, random_init=random_init)
    config = found.config()
    family, adapter_hash = _family(config, name, described)
    extractor, is_default = _feature_extractor(found, config, family)
    language, weights, head = "", "", []
    if random_init is None:
        model, report = found.model(config)
        if prefix := foreign_prefix(found.label, report, needed=family.tensors):
            model, report = found.model(config, prefix=prefix)
        with found.loading():
            encoder = family.encoder(model)
            check_tensors(found.label, model, report, needed=family.tensors, ignored=NEVER_READ)
            language = check_language_adapters(found, encoder)
            head = head_tensors(model, report, needed=family.tensors)
            if found.adapter is not None:
                merged = merge_adapter(found.adapter, encoder, never_read=NEVER_READ)
                weights, head = merged.weights, [*merged.left_out]
    else:
        model = found.untrained(config, seed=random_init)
    upstream = name if name == OWN else found.upstream
    if upstream == OWN != name:
        upstream = f"{found.folder.resolve().parent.name}/{OWN}"  # a user's folder of that name is another encoder
    folder = "" if name == OWN else found.local_folder
    return LoadedModel(
        model, family, extractor, upstream, found.commit, adapter_hash, is_default, folder, language, weights,
        " ".join(filter(None, [_merged_note(found, weights), head_note(upstream, head)])),
    )  # fmt: skip


def _load_by_adapter(name: str, described: tuple[Architecture, str], *, random_init: int | None) -> LoadedModel:
    """Load a model by the loader of an adapter, which transformers has none for.

    Raises:
        InputError: if there is no such folder or file, random weights are requested, or the loader fails
    """
    path, (family, adapter_hash) = Path(name), described
    if family.load is None or random_init is not None:
        raise InputError(
            "LP342", f"encoder {name} is loaded by its adapter, with its weights: leave --random-init out."
        )
    if not path.exists():
        raise InputError("LP300", f"encoder {name}: no such folder. Its adapter loads models from local folders only.")
    try:
        model, extractor = family.load(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            "LP333",
            f"adapter of encoder {name} does not run: {type(error).__name__}: {first_line(error)}. Correct it, or "
            "install what it needs.",
        ) from error
    return LoadedModel(model, family, extractor, path.resolve().name, "", adapter_hash, folder=str(path.resolve()))


def _load_foreign(name: str, *, random_init: int | None, described: tuple[Architecture, str] | None) -> LoadedModel:
    """Load a bundle of torchaudio or another toolkit's checkpoint; arguments and errors as of `load_model`."""
    with quiet_transformers(bars=False):
        return _loaded_foreign(name, random_init=random_init, described=described)


def _loaded_foreign(name: str, *, random_init: int | None, described: tuple[Architecture, str] | None) -> LoadedModel:
    found = read_foreign(name)
    family, adapter_hash = _family(found.config, name, described)
    model, report = foreign_model(found, random_init=random_init)
    check_tensors(found.label, model, report, needed=family.tensors, ignored=NEVER_READ)
    extractor = foreign_extractor(found)
    is_default = extractor is None
    if is_default and (extractor := family.default_extractor(found.config)) is None:
        raise _no_extractor(name, found.config)
    folder = "" if found.path is None else str(found.path.resolve())
    head = head_tensors(model, report, needed=family.tensors)
    return LoadedModel(
        model, family, extractor, found.upstream, "", adapter_hash, is_default, folder,
        weights_note=head_note(found.upstream, head),
    )  # fmt: skip


def _merged_note(found: Pretrained, weights: str) -> str:
    if found.adapter is None or not weights:
        return ""
    return f"{found.upstream}: a PEFT adapter, merged into its base model {found.adapter.base} (weights {weights})."


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


def _family(config: Any, name: str, described: tuple[Architecture, str] | None) -> tuple[Architecture, str]:
    """Return the architecture of a model and, where an adapter describes it, that file's hash."""
    if described is not None:
        return described
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
        raise _no_extractor(found.name, config)
    return default, True


def _no_extractor(name: str, config: Any) -> InputError:
    return InputError(
        "LP304",
        f"encoder {name} has no {EXTRACTOR_FILES[0]}, and {config.model_type} models have no common default: whether "
        "it was trained on normalised waveforms is not known. Add that file from the checkpoint that it derives from.",
    )


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
