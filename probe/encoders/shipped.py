"""Architectures that other packages ship as entry points, so that their encoders load without a file of the user's.

A package names a module with an ``ARCHITECTURE`` in its ``pyproject.toml``, under the ``model_type`` or the class that
``config.json`` of such an encoder states:

    [project.entry-points."layerprobe.architectures"]
    parakeet_encoder = "my_package.parakeet"
"""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from layerprobe.probe.encoders.architectures import ARCHITECTURES, Architecture, described_by, read_adapter
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.foreign_files import first_line
from layerprobe.probe.model_files import CONFIG

GROUP = "layerprobe.architectures"


def shipped_names() -> list[str]:
    """Return the names of all architectures that installed packages ship."""
    return sorted(entry_points(group=GROUP).names)


def chosen_architecture(adapter: Path | str) -> tuple[Architecture, str]:
    """Return the architecture that ``--adapter`` names, a Python file or a shipped one, and the hash of its file.

    Raises:
        InputError: if there is none, it does not run, or two packages ship one of that name
    """
    path = Path(adapter)
    if path.suffix == ".py" or path.exists() or str(adapter) not in shipped_names():
        return read_adapter(path, shipped=shipped_names())
    return _loaded(str(adapter))


def architecture_of_folder(folder: Path) -> tuple[Architecture, str] | None:
    """Return the shipped architecture of a model's folder, by the model type or the class in its config.json.

    There is none for a model type that layerprobe reads itself: installing a package changes no layer of those.

    Raises:
        InputError: if one is shipped and can't be used
    """
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        names = [config.get("model_type"), *(config.get("architectures") or [])]
        if names[0] in ARCHITECTURES:
            return None
    except (OSError, ValueError, AttributeError, TypeError):  # which loading the model reports
        return None
    found = next((name for name in names if name in shipped_names()), None)
    return None if found is None else _loaded(found)


def is_shipped(adapter_hash: str) -> bool:
    """Return whether an installed package ships an architecture whose file has a hash, as a plan records it."""
    for name in shipped_names():
        try:
            if _loaded(name)[1] == adapter_hash:
                return True
        except InputError:  # of another encoder's
            continue
    return False


def _loaded(name: str) -> tuple[Architecture, str]:
    points = list(entry_points(group=GROUP, name=name))
    if len(points) > 1:
        packages = " and ".join(sorted(str(point.dist.name) for point in points if point.dist))
        raise InputError(
            "LP397",
            f"adapter {name} is shipped by {len(points)} packages, {packages}. Uninstall all but one, or name the "
            "Python file of the one that is meant with --adapter.",
        )
    module = _module(name, points[0])
    return described_by(module, Path(str(module.__file__)), name=f"{name} ({points[0].value})")


def _module(name: str, point: EntryPoint) -> ModuleType:
    try:
        loaded: Any = point.load()
    except Exception as error:
        raise InputError(
            "LP333",
            f"adapter {name} ({point.value}) does not run: {type(error).__name__}: {first_line(error)}. Correct it, or "
            "install what it needs.",
        ) from error
    if isinstance(loaded, ModuleType) and loaded.__file__:
        return loaded
    raise InputError("LP333", f"adapter {name} ({point.value}) does not run: it names no module. Correct it.")
