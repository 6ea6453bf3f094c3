"""The identity of an encoder: hashes of its weights, of its settings, and of code that came with it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

# Settings of a configuration that name things and reach no layer.
NAMES = frozenset({
    "_name_or_path", "architectures", "auto_map", "dtype", "finetuning_task", "id2label", "label2id", "name_or_path",
    "num_labels", "problem_type", "task_specific_params", "torch_dtype", "transformers_version",
})  # fmt: skip
REMOTE_CODE = "transformers_modules."  # the package into which transformers imports code that came with a model


def model_hash(encoder: Any, *, never_read: Collection[str] = ()) -> str:
    """Return sixteen hex digits over everything that its layers follow from.

    These are name, shape and bytes of every tensor but those of ``never_read``, the settings of its configuration
    (activation, heads, epsilon of norms, implementation of attention), and code that came with it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        if name not in never_read:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(settings_text(encoder.config).encode())
    digest.update(code_hash(encoder.config, *encoder.modules()).encode())
    return digest.hexdigest()[:16]


def settings_text(config: Any) -> str:
    """Return the settings of a configuration that can reach a layer, as sorted JSON."""
    settings = {key: value for key, value in config.to_dict().items() if key not in NAMES}
    settings["attention"] = getattr(config, "_attn_implementation", None)
    return json.dumps(settings, sort_keys=True, default=str)


def code_hash(*objects: Any) -> str:
    """Return sixteen hex digits over the code that came with a model and defines these objects; empty without any."""
    names = {kind.__module__ for one in objects for kind in type(one).__mro__}
    packages = {name.rpartition(".")[0] for name in names if name.startswith(REMOTE_CODE)}
    files = {
        name: Path(str(module.__file__))
        for name, module in list(sys.modules.items())
        if name.rpartition(".")[0] in packages and getattr(module, "__file__", None)
    }
    if not files:
        return ""
    digest = hashlib.sha256()
    for _, path in sorted(files.items()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
