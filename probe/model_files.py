"""Checks of a model's files before they are loaded: none is damaged, and none that changes numbers would be ignored."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import foreign_content

CONFIG = "config.json"
EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")  # either may hold its settings
SETTINGS = (CONFIG, *EXTRACTOR_FILES, "tokenizer_config.json")  # may ask for code of the model's own
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
# What transformers reads weights from, in its order; only the last two are pickles.
WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
ADAPTER = "adapter_config.json"  # as PEFT and AdapterHub write it
ADAPTER_WEIGHTS = re.compile(r"(adapter|lora).*\.(safetensors|bin|pt|pth|npz)$", re.IGNORECASE)
QUANTISATIONS = ("quantization_config", "compression_config")  # settings of a checkpoint in fewer bits
FLOATS = ("F64", "F32", "F16", "BF16")  # in which safetensors hold a weight that is not quantised
AUTO_CLASSES = (
    "AutoConfig", "AutoModel", "AutoFeatureExtractor", "AutoProcessor", "AutoTokenizer", "AutoModelForCTC",
    "AutoModelForSpeechSeq2Seq", "AutoModelForTDT",
)  # fmt: skip
EXTRACTOR_SETTINGS = ("feature_extractor", "feature_extractor_type", "feature_size", "sampling_rate", "do_normalize")
EXTRACTOR_NUMBERS = ("sampling_rate", "n_fft", "hop_length", "feature_size", "num_mel_bins", "chunk_length", "stride")
EXTRACTOR_FLAGS = ("do_normalize", "return_attention_mask")
MAX_NUMBER = 1_000_000
LONGEST_HEADER = 100_000_000  # bytes, as safetensors allows


def weight_files(folder: Path, *, named: str | None = None) -> list[Path]:
    """Return the files that transformers reads weights from, an index before its shards; none if there are none.

    Args:
        folder: a transformers folder
        named: file that config.json names in ``transformers_weights``
    """
    first = next((folder / name for name in (named, *WEIGHT_FILES) if name and os.path.lexists(folder / name)), None)
    if first is None:
        return []
    if first.suffix != ".json":
        return [first]
    if damage(first):
        return [first]
    return [first, *(folder / shard for shard in sorted({str(name) for name in _object(first)["weight_map"].values()}))]


def damage(path: Path) -> str:
    """Return what is wrong with a file of a model, to follow its name in a sentence; empty where it looks whole."""
    if fault := foreign_content(path):
        return fault
    if path.suffix == ".json":
        return _json_damage(path)
    if path.suffix == ".safetensors":
        return _safetensors_damage(path)
    return _pickle_damage(path) if path.suffix == ".bin" else ""


def check_files(name: str, paths: list[Path], *, advice: str) -> None:
    """Check that no file is missing or damaged.

    Args:
        name: kind and name of the model, with which the message begins
        paths: the files
        advice: what to do, a sentence

    Raises:
        InputError: naming the first that is
    """
    for path in paths:
        if fault := damage(path):
            raise InputError("LP303", f"{name}: {path.name} {fault}. {advice}")


def check_weights_are_floats(name: str, path: Path) -> None:
    """Check that a safetensors file holds no quantised weight, whose scale a float model would not know.

    Raises:
        InputError: naming the first weight that is
    """
    for tensor, entry in safetensors_header(path).items():
        if tensor.endswith(("weight", "bias")) and entry["dtype"] not in FLOATS:
            raise InputError(
                "LP313",
                f"{name}: {path.name} holds {tensor} in {entry['dtype']}, a quantised weight, which is not read. Save "
                "a copy in float32 (dequantize() of transformers, then save_pretrained) and name that.",
            )


def safetensors_header(path: Path) -> dict[str, Any]:
    """Return the entry of each tensor (dtype, shape, data_offsets) in a whole safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = dict(json.loads(file.read(length)))
    header.pop("__metadata__", None)
    return header


def check_adapters(name: str, found: list[str]) -> None:
    """Refuse a model with a PEFT adapter, which transformers applies or ignores depending on what is installed.

    Args:
        name: kind and name of the model
        found: names of the adapter's files

    Raises:
        InputError: if it has one
    """
    if found:
        raise InputError(
            "LP314",
            f"{name} comes with an adapter ({', '.join(found)}), which is not read. Merge it into the weights "
            "(merge_and_unload() of PEFT, then save_pretrained to a new folder) and name that folder; or remove the "
            "adapter's files to use the weights without it.",
        )


def adapter_files(folder: Path) -> list[str]:
    """Return the names of an adapter's files in a folder, those of a wav2vec 2.0's languages left out."""
    languages = {path.name for path in language_adapters(folder)}
    names = sorted(path.name for path in folder.iterdir())
    return [name for name in names if name not in languages and (name == ADAPTER or ADAPTER_WEIGHTS.search(name))]


def check_config(name: str, config: dict[str, Any]) -> None:
    """Refuse what config.json asks for and a float model of transformers' own code can't follow.

    Args:
        name: kind and name of the model
        config: content of config.json

    Raises:
        InputError: if it describes a quantised checkpoint, or names weights that are no safetensors
    """
    for key in QUANTISATIONS:
        if config.get(key):
            settings = config[key]
            method = settings.get("quant_method") if isinstance(settings, dict) else None
            raise InputError(
                "LP313",
                f"{name} is quantised ({method or key} in config.json), which is not read: layers are computed from "
                "the full weights. Name the original checkpoint, or save a copy in float32 (dequantize() of "
                "transformers, then save_pretrained).",
            )
    named = config.get("transformers_weights")
    if named is not None and not str(named).endswith((".safetensors", ".safetensors.index.json")):
        raise InputError(
            "LP311",
            f"{name}: config.json reads its weights from {named}, which is no safetensors file. Save them as "
            "safetensors (save_pretrained does).",
        )


def brought_code(settings: dict[str, dict[str, Any]]) -> str:
    """Return which file asks for which code, as ``own.Encoder in config.json``; empty where none does.

    Args:
        settings: content of the model's JSON files, by name
    """
    for file, content in settings.items():
        wanted = content.get("auto_map") or {}
        if isinstance(wanted, str | list | tuple):  # an older form of tokenizer_config.json
            wanted = {"AutoTokenizer": wanted}
        for key in AUTO_CLASSES:
            if key in wanted:
                code = wanted[key]
                classes = [code] if isinstance(code, str) else [one for one in code if one]
                return f"{' and '.join(map(str, classes))} in {file}"
        attention = content.get("attn_implementation") or content.get("_attn_implementation")
        if isinstance(attention, str) and "/" in attention:
            return f"the attention kernel {attention} in {file}"
    return ""


def check_extractor_settings(name: str, settings: dict[str, dict[str, Any]]) -> None:
    """Check that a feature extractor's file holds its settings; transformers would take defaults instead.

    Raises:
        InputError: if files are there and none does, or a setting can't be one
    """
    found = [file for file in EXTRACTOR_FILES if file in settings]
    if found and not any(key in settings[file] for file in found for key in EXTRACTOR_SETTINGS):
        raise InputError(
            "LP304",
            f"{name} can't be loaded: {' and '.join(found)} holds no settings of a feature extractor "
            f"({', '.join(EXTRACTOR_SETTINGS[1:])}). Copy it from the checkpoint that the model derives from.",
        )
    for file in found:
        nested = settings[file].get("feature_extractor")
        for key, value in {**settings[file], **(nested if isinstance(nested, dict) else {})}.items():
            if key in EXTRACTOR_NUMBERS and not (type(value) is int and 0 < value <= MAX_NUMBER):
                raise InputError(
                    "LP305",
                    f"{name} can't be loaded: {key} is {value!r} in {file}, which is no whole number of 1 to "
                    f"{MAX_NUMBER}. Copy the file from the checkpoint that the model derives from.",
                )
            if key in EXTRACTOR_FLAGS and not isinstance(value, bool | None):  # the text "false" would count as true
                raise InputError(
                    "LP305",
                    f"{name} can't be loaded: {key} is {value!r} in {file}, neither true nor false. Copy the file from "
                    "the checkpoint that the model derives from.",
                )


def has_language_model(content: dict[str, Any]) -> bool:
    """Return whether the settings of a recogniser's preprocessor ask for a language model in decoding."""
    return str(content.get("processor_class", "")).endswith("WithLM")


def check_decoder(name: str) -> None:
    """Check that a language model can be used in decoding, without which transformers would decode silently.

    Raises:
        InputError: if a package is missing
    """
    missing = [package for package in ("pyctcdecode", "kenlm") if find_spec(package) is None]
    if missing:
        raise InputError(
            "LP356",
            f"{name} decodes with a language model, which needs {' and '.join(missing)}: pip install "
            f"{' '.join(missing)}. To do without it, set processor_class to Wav2Vec2Processor in a copy's "
            "preprocessor_config.json.",
        )


def read_settings(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Return the content of undamaged JSON files by name."""
    return {path.name: _object(path) for path in paths}


def language_adapters(folder: Path) -> list[Path]:
    """Return the files of adapters of languages in a wav2vec 2.0 folder (MMS), ``adapter.deu.safetensors`` and such."""
    return sorted(path for kind in ("safetensors", "bin") for path in folder.glob(f"adapter.*.{kind}"))


def _object(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes()))


def _json_damage(path: Path) -> str:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"can't be read as JSON ({error}); a download may have been cut"
    if not isinstance(content, dict):
        return "holds no JSON object"
    if path.name.endswith(".index.json") and not (
        content.get("weight_map") and isinstance(content["weight_map"], dict)
    ):
        return "holds no weight_map, the files that tensors are in"
    return ""


def _safetensors_damage(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > LONGEST_HEADER:
            return "is no safetensors file"
        if 8 + length > size:
            return f"is cut: it ends after {size} bytes, within its header"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
            stated = 8 + length + max(ends, default=0)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError):
            return "is no safetensors file"
    if size < stated:
        return f"is cut: it holds {size} of the {stated} bytes that its header states"
    return f"holds {size} bytes and not the {stated} that its header states" if size > stated else ""


def _pickle_damage(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(2)
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                return "" if archive.namelist() else "holds nothing"
        except (zipfile.BadZipFile, OSError, ValueError):
            return "is cut: its archive has no end"
    return "" if head.startswith(b"\x80") else "is no checkpoint of torch"


def present(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files of those names that a folder has."""
    yield from (folder / name for name in names if os.path.lexists(folder / name))
