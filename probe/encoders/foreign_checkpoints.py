"""Checkpoints of torchaudio, fairseq and s3prl in one file, or a bundle of torchaudio, as models of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerprobe.probe.encoders.foreign_names import (
    BUNDLE,
    model_settings,
    model_type,
    settings_of,
    transformers_names,
)
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.model_files import CONFIG, EXTRACTOR_FILES, damage
from layerprobe.probe.model_size import check_model_size, model_from_config
from layerprobe.probe.pickles import check_trusted, read_checkpoint
from layerprobe.probe.pretrained import SPEECH_ENCODER, Pretrained, find_pretrained

_TENSORS = ("model", "model_weight", "state_dict", "model_state_dict")  # where a file keeps them, if not at its top


@dataclass(frozen=True)
class Foreign:
    """A checkpoint of another toolkit, under the names of transformers."""

    label: str  # kind and name, with which messages begin
    upstream: str  # for plans and tables
    path: Path | None  # of the file; None of a bundle
    tensors: Mapping[str, Tensor]
    config: Any  # of transformers
    normalises: bool | None  # whether the waveform is scaled to zero mean and unit variance; None if not stated
    companion: Pretrained | None  # a folder's config.json and feature extractor next to the file


def read_foreign(name: str) -> Foreign:
    """Read a bundle of torchaudio, or a file of torchaudio, fairseq, unilm or s3prl.

    A ``config.json`` of transformers next to a file states its settings; otherwise these are read from the file, and
    what it does not state is that of the published encoders of its width.

    Raises:
        InputError: if there is none, it is damaged, pickles are not trusted, or its architecture is another
    """
    from transformers import AutoConfig

    label = f"encoder {name}"
    path = None if name.startswith(BUNDLE) else Path(name)
    if path is not None and (fault := damage(path)):
        raise InputError("LP303", f"{label} can't be loaded: {path.name} {fault}. Copy or download it again.")
    check_trusted(label)
    tensors, stored, normalises = _bundle(label, name) if path is None else _file(label, path)
    named = transformers_names(tensors)
    companion = None
    if path is not None and (path.parent / CONFIG).is_file():
        companion = find_pretrained(str(path.parent), SPEECH_ENCODER)
    try:
        if companion is not None:
            config = companion.config()
        else:
            kind = model_type(named, f"{name} {stored.get('_name', '')}")
            config = AutoConfig.for_model(kind, **settings_of(named, stored))
    except (KeyError, IndexError) as error:
        raise _unknown_layout(label, f"{first_line(error)} in it") from error
    return Foreign(label, name if path is None else path.name, path, named, config, normalises, companion)


def foreign_model(found: Foreign, *, random_init: int | None) -> tuple[Any, dict[str, Any]]:
    """Return the model of a checkpoint, in float32, and a report on missing and unexpected tensors as transformers'.

    Args:
        found: the checkpoint
        random_init: seed of untrained weights; None for those of the checkpoint

    Raises:
        InputError: if a tensor has another shape than the configuration states, or none of the encoder's is there
    """
    check_model_size(found.label, found.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_init or 0)
        model = model_from_config(found.config).float().eval()
    if random_init is not None:
        return model, {"missing_keys": [], "unexpected_keys": []}
    own = model.state_dict()
    for name, tensor in found.tensors.items():
        if name in own and own[name].shape != tensor.shape:
            raise InputError(
                "LP323",
                f"{found.label}: {name} has the shape {tuple(tensor.shape)} in the checkpoint, and "
                f"{tuple(own[name].shape)} by its config.json. Take both from the same checkpoint.",
            )
    missing = sorted(own.keys() - found.tensors.keys())
    if len(missing) > len(own) // 2:
        raise _unknown_layout(found.label, f"no {missing[0]} in it")
    model.load_state_dict({k: v for k, v in found.tensors.items() if k in own}, strict=False)
    return model, {"missing_keys": missing, "unexpected_keys": sorted(found.tensors.keys() - own.keys())}


def foreign_extractor(found: Foreign) -> Any:
    """Return the feature extractor of a checkpoint's file or bundle; None where neither states how audio is scaled."""
    from transformers import Wav2Vec2FeatureExtractor

    if found.companion is not None and found.companion.has_file(*EXTRACTOR_FILES):
        return found.companion.feature_extractor()
    if found.normalises is None:
        return None
    masks = found.config.feat_extract_norm == "layer"
    return Wav2Vec2FeatureExtractor(do_normalize=found.normalises, return_attention_mask=masks)


def _bundle(label: str, name: str) -> tuple[Mapping[str, Any], dict[str, Any], bool]:
    """Return the tensors and settings of a bundle of torchaudio, which downloads them once."""
    import torchaudio
    from torchaudio.pipelines import Wav2Vec2Bundle

    bundles = {key: one for key, one in vars(torchaudio.pipelines).items() if isinstance(one, Wav2Vec2Bundle)}
    key = name.removeprefix(BUNDLE)
    if key not in bundles:
        raise InputError("LP396", f"{label}: torchaudio has no such encoder; its bundles are {', '.join(bundles)}.")
    try:
        model: Any = bundles[key].get_model()
    except Exception as error:
        raise InputError(
            "LP396", f"{label}: torchaudio can't load it: {first_line(error)}. Check the connection."
        ) from error
    inner = getattr(model, "model", model)
    layers = inner.encoder.transformer.layers
    attention = layers[0].attention
    settings = {
        "encoder_attention_heads": getattr(attention, "num_heads", None),
        "layer_norm_first": layers[0].layer_norm_first,
        "max_distance": getattr(attention, "max_distance", None) or 800,
    }
    normalises = bool(getattr(model, "normalize_waveform", False))
    return model.state_dict(), settings, normalises


def _file(label: str, path: Path) -> tuple[Mapping[str, Any], dict[str, Any], bool | None]:
    """Return the tensors and settings of a file, and whether waveforms are normalised, None if that is not stated."""
    try:
        stored = read_checkpoint(path)
    except Exception as error:
        raise InputError(
            "LP303", f"{label} can't be loaded: {path.name} is no checkpoint of torch ({first_line(error)}). Copy or "
            "download it again.",
        ) from error  # fmt: skip
    if not isinstance(stored, Mapping):
        raise _unknown_layout(label, "no table of tensors in it")
    settings = model_settings(stored)
    tensors = next((stored[key] for key in _TENSORS if isinstance(stored.get(key), Mapping)), stored)
    normalises = settings.get("normalize")
    return tensors, settings, None if normalises is None else bool(normalises)


def _unknown_layout(label: str, reason: str) -> InputError:
    return InputError(
        "LP395",
        f"{label} is no wav2vec 2.0, HuBERT or WavLM encoder as torchaudio, fairseq, unilm or s3prl save it "
        f"({reason}). Convert it with transformers' script for its architecture (convert_*_to_pytorch.py in "
        "src/transformers/models of its repository) and name the folder; or put the config.json of its architecture "
        "next to it, if only its settings are missing.",
    )
