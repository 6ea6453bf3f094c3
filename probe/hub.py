"""Where a model's name leads: to a folder, or to the hub at a settled commit; and in what words it fails to.

A checkpoint that is a pickle can run code when it is read, and a model's folder can ask to run its own. Neither is
done unless the user says so for the whole process (`trust`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download

from layerprobe.probe.exceptions import InputError

TRUST = {"pickle": "LAYERPROBE_TRUST_PICKLE", "remote_code": "LAYERPROBE_TRUST_REMOTE_CODE"}
PICKLES = "pytorch_model*.bin"


def trust(what: str) -> None:
    """Allow ``pickle`` or ``remote_code`` in this process and those that it starts."""
    os.environ[TRUST[what]] = "1"


def trusted(what: str) -> bool:
    """Whether that was allowed, here or by the environment."""
    return os.environ.get(TRUST[what]) == "1"


def weights_asked_for(name: str, folder: Path) -> dict[str, Any]:
    """What transformers is told of the files that it may read weights from.

    Raises:
        InputError: if a folder holds a pickle alone, and that is not trusted
    """
    if trusted("pickle"):
        return {}
    if folder.is_dir() and any(folder.glob(PICKLES)) and not any(folder.glob("*.safetensors")):
        raise InputError(
            f"encoder {name}: its weights are a pickle, which can run code when it is read. Save them as safetensors "
            "(save_pretrained does), or add --trust-pickle if you know where it comes from."
        )
    return {"use_safetensors": True}


def hub_commit(name: str) -> tuple[str, str]:
    """Repository and commit of a hub name with an optional ``@revision``; a name that moves is settled once."""
    repository, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repository.count("/") > 1:
        raise InputError(f"encoder {name}: no such folder. Give a transformers folder or a hub name.")
    config = hf_hub_download(repository, "config.json", revision=revision or None)
    return repository, Path(config).parent.name


def why_not_loaded(name: str, folder: Path, error: Exception, *, holds: str = "preprocessor_config.json") -> str:
    """In one sentence with the mend, from what transformers or the hub said."""
    first_line = str(error).strip().splitlines()[0].rstrip(".")
    if "trust_remote_code" in str(error):
        return (
            f"encoder {name} asks to run code of its own. Read it, and add --trust-remote-code if you trust it; its "
            "layers need an --adapter then."
        )
    if folder.is_dir():
        return (
            f"encoder {name} can't be loaded: {first_line}. A transformers folder holds config.json, "
            f"{holds} and the weights."
        )
    return (
        f"encoder {name} is no folder here, and the hub did not give it: {first_line}. "
        "Check the spelling, or the connection (HF_HUB_OFFLINE=1 allows only what is already downloaded)."
    )


@contextmanager
def quiet_transformers(*, bars: bool) -> Iterator[None]:
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
