"""Folders that hold a PEFT adapter without its base model: what they hold, and which model they name as their base."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import find_file
from layerprobe.probe.model_files import ADAPTER, check_files, weight_files
from layerprobe.probe.pickles import check_trusted

MERGED = ("LORA", "IA3")  # kinds of PEFT whose change can be added to the weights exactly; DoRA is a setting of LoRA
SAFE, PICKLE = "adapter_model.safetensors", "adapter_model.bin"


@dataclass(frozen=True)
class PeftAdapter:
    """An adapter of PEFT in a folder, or on the hub at a commit."""

    label: str  # kind and name, with which messages begin
    source: str  # path of the folder, or repository on the hub
    revision: str | None  # the hub's commit; None for a folder
    folder: Path  # that holds its files; of the hub's cache where it is on the hub
    settings: dict[str, Any]  # content of adapter_config.json

    @property
    def base(self) -> str:
        """The base model by a name that `probe.pretrained.find_pretrained` takes.

        A relative path is looked for in the working directory, as PEFT does, and then next to the adapter's files.
        """
        base = str(self.settings["base_model_name_or_path"])
        for folder in (Path(base), self.folder / base):
            if folder.is_dir():
                return str(folder)
        revision = self.settings.get("revision")
        return f"{base}@{revision}" if revision else base

    def weights(self) -> Path:
        """Return the path of its tensors, downloaded where it is on the hub.

        Raises:
            InputError: if there are none, they are damaged, or are a pickle that is not trusted
        """
        name = SAFE if self._has(SAFE) or not self._has(PICKLE) else PICKLE
        if name == PICKLE:
            check_trusted(self.label)
        path = self.folder / name
        if self.revision is not None:
            path = Path(hf_hub_download(self.source, name, revision=self.revision))
        check_files(f"{self.label} can't be loaded", [path], advice="Copy or download it again.")
        return path

    def _has(self, name: str) -> bool:
        return find_file(self.source, name, revision=self.revision) is not None


def is_adapter_alone(folder: Path) -> bool:
    """Return whether a folder holds a PEFT adapter and no weights of a base model."""
    return (folder / ADAPTER).is_file() and not weight_files(folder)


def read_peft_adapter(label: str, *, source: str, revision: str | None, folder: Path) -> PeftAdapter:
    """Read which base model an adapter names, and check that its kind can be merged.

    Args:
        label: kind and name of the model, with which messages begin
        source: path of the folder, or repository on the hub
        revision: the hub's commit; None for a folder
        folder: that holds ``adapter_config.json``

    Raises:
        InputError: if that file is damaged, names no base, or is of an adapter that can't be merged
    """
    path = folder / ADAPTER
    check_files(f"{label} can't be loaded", [path], advice="Copy or download it again.")
    settings = json.loads(path.read_bytes())
    kind, base = settings.get("peft_type"), settings.get("base_model_name_or_path")
    if kind not in MERGED:
        found = f"peft_type {kind}" if kind else "no peft_type, so it is none of PEFT"
        raise InputError(
            "LP390",
            f"{label} is an adapter, and {ADAPTER} states {found}; merged for extraction are LoRA with DoRA (LORA) and "
            "IA³ (IA3). Merge it with the library that trained it, save the model (save_pretrained) and name that "
            "folder.",
        )
    if not isinstance(base, str) or not re.search(r"\S", base):
        raise InputError(
            "LP391",
            f"{label} is a PEFT adapter whose {ADAPTER} names no base model. Write the folder or the hub name of the "
            "model that it was trained on into base_model_name_or_path.",
        )
    return PeftAdapter(label, source, revision, folder, settings)


def base_error(adapter: PeftAdapter, error: InputError) -> InputError:
    """Return the error of an adapter whose base model can't be read."""
    return InputError(
        "LP391",
        f"{adapter.label} is a PEFT adapter whose base model can't be read: {error.message.rstrip('.')}. If the base "
        f"lies elsewhere, write its folder or hub name into base_model_name_or_path of {ADAPTER}.",
    )
