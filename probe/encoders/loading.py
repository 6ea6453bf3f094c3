"""A name becomes a speech encoder with every weight it needs: from a folder, or from the hub at a settled commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from layerprobe.probe.encoders.architectures import ARCHITECTURES, Architecture, read_adapter
from layerprobe.probe.encoders.base import Upstream
from layerprobe.probe.encoders.speech import AUTO, NEVER_READ, LoadedModel, SpeechEncoder, precision_for
from layerprobe.probe.encoders.text import TEXT_ARCHITECTURES, load_text_encoder, reads_text
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import hub_commit, quiet_transformers, trusted, weights_asked_for, why_not_loaded

OWN = "embedded"  # the name of the encoder that the package carries
EMBEDDED = Path(__file__).parents[1] / OWN


def load_encoder(
    name: str,
    *,
    random_init: int | None = None,
    device: str | None = None,
    adapter: Path | str | None = None,
    precision: str = AUTO,
    show_download: bool = True,
) -> Upstream:
    """An encoder of sound (`load_audio_encoder`, arguments as there) or of text, or what is called ``acoustic``.

    ``acoustic`` are features without a network.

    Raises:
        InputError: as `load_audio_encoder` does, and where choices of a speech encoder are made for another upstream
    """
    mixed_precision = precision not in (AUTO, "float32")
    if name not in ("acoustic", OWN) and adapter is None and reads_text(name):
        if mixed_precision:
            raise InputError(f"{name} reads text, in float32 alone. Leave --precision out.")
        return load_text_encoder(name, random_init=random_init, device=device, show_download=show_download)
    if name != "acoustic":
        return load_audio_encoder(
            name,
            random_init=random_init,
            device=device,
            adapter=adapter,
            precision=precision,
            show_download=show_download,
        )
    choices = {
        "--random-init": random_init is not None,
        "--adapter": adapter is not None,
        "--precision": mixed_precision,
    }
    asked = ", ".join(option for option, is_chosen in choices.items() if is_chosen)
    if asked:
        raise InputError(f"acoustic features have no weights: {asked} can't be chosen. Leave that out.")
    _check_torchaudio()
    from layerprobe.probe.encoders.acoustic import AcousticEncoder

    return AcousticEncoder()


def load_audio_encoder(
    name: str,
    *,
    random_init: int | None = None,
    device: str | None = None,
    adapter: Path | str | None = None,
    precision: str = AUTO,
    show_download: bool = True,
) -> SpeechEncoder:
    """Load a speech encoder from a folder or the hub, with every weight it needs, to be listened to.

    Args:
        name: a transformers folder, a hub name with an optional ``@revision``, or ``embedded``
        random_init: seed for weights drawn as the architecture draws them before training; None for trained ones
        device: ``"cpu"``, ``"cuda"``, …; None takes a GPU where there is one
        adapter: a file whose ``ARCHITECTURE`` takes an architecture apart that `probe.encoders.architectures` does not know
        precision: float32, bfloat16 or float16 (GPU) of the products; auto takes 16 bits where the hardware
            multiplies them, which moves layers by about 1 %
        show_download: whether the hub's own bars are shown

    Raises:
        InputError: if nothing is found there, the architecture is unknown, or an encoder tensor is missing
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision_for(precision, device=device, known=adapter is None)
    loaded = load_model(name, random_init=random_init, adapter=adapter, show_download=show_download)
    return SpeechEncoder(loaded, random_init=random_init, device=device, precision=precision)


def load_model(
    name: str, *, random_init: int | None = None, adapter: Path | str | None = None, show_download: bool = True
) -> LoadedModel:
    """Load a speech model in float32, as it is; arguments and errors as of `load_audio_encoder`."""
    _check_torchaudio()
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    folder = EMBEDDED if name == OWN else Path(name)
    local = folder.is_dir()
    # the process's own chance is left alone: loading draws weights too, before it replaces them
    with quiet_transformers(bars=show_download and not local), torch.random.fork_rng(devices=[]):
        try:
            source, revision = (str(folder), None) if local else hub_commit(name)
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trusted("remote_code"))
            family, adapter_hash = _family(config, name, adapter)
            extractor = AutoFeatureExtractor.from_pretrained(source, revision=revision)
            if random_init is None:
                model, report = AutoModel.from_pretrained(
                    source, revision=revision, dtype=torch.float32, output_loading_info=True,
                    trust_remote_code=trusted("remote_code"), **weights_asked_for(name, folder),
                )  # fmt: skip
                _refuse_missing(report["missing_keys"], family, name)
            else:
                torch.manual_seed(random_init)
                model = AutoModel.from_config(config, trust_remote_code=trusted("remote_code"))
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(why_not_loaded(name, folder, error)) from error
    upstream = name if name == OWN else folder.resolve().name if local else source
    if upstream == OWN != name:
        upstream = f"{folder.resolve().parent.name}/{OWN}"  # somebody else's
    return LoadedModel(model, family, extractor, upstream, revision or "", adapter_hash)


def _family(config: Any, name: str, adapter: Path | str | None) -> tuple[Architecture, str]:
    """The family of an architecture and, where an adapter tells it, that file's hash."""
    if adapter is not None:
        return read_adapter(Path(adapter))
    if config.model_type not in ARCHITECTURES:
        raise InputError(
            f"encoder {name} is a {config.model_type!r} model; layers can be read of {', '.join(sorted(ARCHITECTURES))}, "
            f"and of text by {', '.join(sorted(TEXT_ARCHITECTURES))}. "
            "For another, write an adapter (probe/encoders/architectures.py has one to start from) and name it with "
            "--adapter."
        )
    return ARCHITECTURES[config.model_type], ""


def _refuse_missing(missing: set[str], family: Architecture, name: str) -> None:
    needed = sorted(k for k in missing if k.startswith(family.tensors) and k not in NEVER_READ)
    if needed:
        others = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise InputError(
            f"encoder {name}: the checkpoint lacks {needed[0]}{others}, which would be filled at random. "
            "Take a whole checkpoint, or ask for untrained weights with --random-init SEED."
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
