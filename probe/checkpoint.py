"""A name becomes a speech encoder with every weight it needs: from a folder, or from the hub at a settled commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download

from probe.encoder import AUTO, NEVER_READ, SpeechEncoder, precision_for
from probe.errors import InputError
from probe.families import FAMILIES, Family, read_adapter
from probe.upstream import Upstream

EMBEDDED = Path(__file__).parent / "embedded"


def load_upstream(name: str, **choices: Any) -> Upstream:
    """What is called ``acoustic`` (features without a network), or the encoder of `load_encoder`, arguments as there.

    Raises:
        InputError: as `load_encoder` does, and where choices of an encoder are made for ``acoustic``
    """
    if name != "acoustic":
        return load_encoder(name, **choices)
    asked = [k for k in ("random_init", "adapter") if choices.get(k) is not None]
    if choices.get("precision", AUTO) not in (AUTO, "float32"):
        asked.append("precision")
    if asked:
        options = ", ".join(f"--{k.replace('_', '-')}" for k in asked)
        raise InputError(f"acoustic features have no weights: {options} can't be chosen. Leave that out.")
    _check_torchaudio()
    from probe.acoustic import AcousticEncoder

    return AcousticEncoder()


def load_encoder(
    name: str,
    *,
    random_init: int | None = None,
    device: str | None = None,
    adapter: Path | str | None = None,
    precision: str = AUTO,
    show_download: bool = True,
) -> SpeechEncoder:
    """Load a speech encoder from a folder or the hub, with every weight it needs.

    Args:
        name: a transformers folder, a hub name with an optional ``@revision``, or ``embedded``
        random_init: seed for weights drawn as the architecture draws them before training; None for trained ones
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        adapter: a file whose ``FAMILY`` takes an architecture apart that `probe.families` does not know
        precision: float32, bfloat16 or float16 (GPU) of the products; auto takes 16 bits where the hardware
            multiplies them, which moves layers by about 1 %
        show_download: whether the hub's own bars are shown

    Raises:
        InputError: if nothing is found there, the architecture is unknown, or an encoder tensor is missing
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision_for(precision, device=device, known=adapter is None)
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
        device=device,
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
