"""The embedded encoder's folder: its configuration comes with this package, its weights with one of their own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from layerprobe.probe.exceptions import InputError

OWN = "embedded"  # the name of the encoder
EMBEDDED = Path(__file__).parents[1] / OWN  # its configuration and card; in a checkout the weights, too
DISTRIBUTION = "layerprobe-embedded"  # built from that folder, so that the wheel of layerprobe stays small
WEIGHTS = "model.safetensors"


def embedded_folder(*, trained: bool = True) -> Path:
    """Return the transformers folder of the embedded encoder.

    Args:
        trained: whether its weights are needed; random ones take the configuration alone

    Returns:
        the folder in a checkout, or else the package ``layerprobe_embedded``, whose files are the same

    Raises:
        InputError: if the weights are needed and not installed
    """
    if not trained or (EMBEDDED / WEIGHTS).exists():
        return EMBEDDED
    found = find_spec(DISTRIBUTION.replace("-", "_"))
    for folder in map(Path, (found and found.submodule_search_locations) or ()):
        if (folder / WEIGHTS).exists():
            return folder
    raise InputError(
        "LP820",
        "The weights of the embedded encoder are not installed. Install them: pip install layerprobe-embedded, or in a "
        "clone of the repository: pip install ./probe/embedded.",
    )
