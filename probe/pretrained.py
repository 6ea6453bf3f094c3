"""Models of transformers in a folder or on the hub: checked, then loaded; its loaders are called in this file only.

So none of them runs code that came with a model unless the user trusts it (`probe.hub.trust`), whatever is typed on
standard input, and every error of theirs becomes one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import find_file, has_file, hub_commit, quiet_transformers, trusted
from layerprobe.probe.model_errors import loading_error, own_code_error
from layerprobe.probe.model_files import (
    ADAPTER,
    CONFIG,
    EXTRACTOR_FILES,
    SETTINGS,
    TOKENIZER_FILES,
    adapter_files,
    brought_code,
    check_adapters,
    check_config,
    check_decoder,
    check_extractor_settings,
    check_files,
    check_weights_are_floats,
    damage,
    has_language_model,
    present,
    read_settings,
    weight_files,
)
from layerprobe.probe.model_size import check_model_size, model_from_config
from layerprobe.probe.model_tensors import check_tensors
from layerprobe.probe.peft_folders import PeftAdapter, base_error, is_adapter_alone, read_peft_adapter
from layerprobe.probe.pickles import pickle_error

SPEECH_ENCODER, TEXT_ENCODER, RECOGNISER, CONFIGURATION = "speech", "text", "recogniser", "configuration"
FILES = {  # that are read for a purpose, in addition to config.json and weights
    SPEECH_ENCODER: EXTRACTOR_FILES,
    TEXT_ENCODER: TOKENIZER_FILES,
    RECOGNISER: (*EXTRACTOR_FILES, *TOKENIZER_FILES, "generation_config.json"),
    CONFIGURATION: (),
}
NEEDED = {
    SPEECH_ENCODER: "config.json, preprocessor_config.json and the weights",
    TEXT_ENCODER: "config.json, the tokenizer and the weights",
    RECOGNISER: "config.json, the preprocessor, the tokenizer and the weights",
    CONFIGURATION: "config.json",
}

GENERATION_CODE = "custom_generate/generate.py"  # runs instead of transformers' own generation


@dataclass(frozen=True)
class Pretrained:
    """A model in a folder, or on the hub at a commit; `find_pretrained` makes it and checks its settings."""

    name: str  # as the user gave it
    kind: str  # "encoder" or "recogniser", for messages
    purpose: str  # a key of `FILES`
    source: str  # path of the folder, or repository on the hub
    revision: str | None  # the hub's commit; None for a folder
    folder: Path  # that holds its files; of the hub's cache where it is on the hub
    shows_download: bool = False  # whether the hub's progress bars are shown
    adapter: PeftAdapter | None = None  # of PEFT, whose base this model is; the name is the adapter's then

    @property
    def label(self) -> str:
        """Kind and name, as messages begin."""
        return f"{self.kind} {self.name}"

    @property
    def upstream(self) -> str:
        """Name for plans and tables: the folder's own, or the hub's; an adapter's where there is one."""
        origin = self.adapter or self
        return origin.folder.resolve().name if origin.revision is None else origin.source

    @property
    def commit(self) -> str:
        """Commit of the hub that `upstream` is at; empty for a folder."""
        return (self.adapter or self).revision or ""

    @property
    def local_folder(self) -> str:
        """Absolute path of a folder; empty for a model on the hub."""
        origin = self.adapter or self
        return str(origin.folder.resolve()) if origin.revision is None else ""

    @property
    def is_adapter(self) -> bool:
        """Whether it is a PEFT adapter alone, which is merged into the base that it names."""
        has_config = self.revision is not None and (self.folder / CONFIG).exists()  # its weights may not be here yet
        return self.purpose != RECOGNISER and not has_config and is_adapter_alone(self.folder)

    def has_file(self, *names: str) -> bool:
        """Return whether it has one of these files; see `probe.hub.has_file`."""
        with self.loading():
            return any(has_file(self.source, name, revision=self.revision) for name in names)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Turn every error inside, whatever its kind, into one sentence, with transformers' reports silenced.

        Raises:
            InputError: with the error as its cause
        """
        with quiet_transformers(bars=self.shows_download and self.revision is not None):
            try:
                yield
            except InputError:
                raise
            except Exception as error:
                raise self._failure(error) from error

    def config(self) -> Any:
        """Return its configuration."""
        from transformers import AutoConfig

        with self.loading():
            return AutoConfig.from_pretrained(self.source, **self._options())

    def check_size(self, config: Any, *, in_memory: bool = True) -> None:
        """Check the size of the model that its configuration describes; see `probe.model_size.check_model_size`."""
        with self.loading(), torch.random.fork_rng(devices=[]):
            check_model_size(self.label, config, in_memory=in_memory)

    def feature_extractor(self) -> Any:
        """Return its feature extractor."""
        from transformers import AutoFeatureExtractor

        with self.loading():
            return AutoFeatureExtractor.from_pretrained(self.source, **self._options())

    def tokenizer(self) -> Any:
        """Return its tokenizer, of the fast kind."""
        from transformers import AutoTokenizer

        with self.loading():
            return AutoTokenizer.from_pretrained(self.source, use_fast=True, **self._options())

    def model(self, config: Any, *, prefix: str = "") -> tuple[Any, dict[str, Any]]:
        """Return the model without a head, in float32, and transformers' report on missing and unexpected tensors.

        Args:
            config: of the model
            prefix: under which the checkpoint holds the model's tensors, if transformers does not know it

        Raises:
            InputError: if its weights are missing, damaged, quantised, too large, or a pickle that is not trusted
        """
        from transformers import AutoModel

        self.check_size(config)
        self.check_weights(config, pickle=trusted("pickle"))
        options: dict[str, Any] = {} if trusted("pickle") else {"use_safetensors": True}
        if prefix:
            options["key_mapping"] = {f"^{re.escape(prefix)}": ""}
        # transformers samples weights before it reads them: the state of the process's generator is restored
        with self.loading(), torch.random.fork_rng(devices=[]):
            model, report = AutoModel.from_pretrained(
                self.source, dtype=torch.float32, output_loading_info=True, weights_only=True,
                ignore_mismatched_sizes=True, **self._options(), **options,
            )  # fmt: skip
            for name, stored, described in sorted(report["mismatched_keys"]):  # initialised at random
                raise InputError(
                    "LP323",
                    f"{self.label}: {name} has the shape {tuple(stored)} in the checkpoint, and {tuple(described)} by "
                    "its config.json. Take both from the same checkpoint.",
                )
            self.check_weights(config, pickle=trusted("pickle"))  # those that were downloaded only now
            return model, report

    def untrained(self, config: Any, *, seed: int) -> Any:
        """Return the model without a head with random weights of a seed, as the architecture initialises them."""
        self.check_size(config)
        with self.loading(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return model_from_config(config)

    def recogniser(self, *, device: str) -> Any:
        """Return transformers' pipeline of speech recognition; its weights are read from safetensors only."""
        from transformers import pipeline

        config = self.config()
        self.check_size(config)
        self.check_weights(config, pickle=False)
        with self.loading():
            loaded = pipeline(
                "automatic-speech-recognition",
                model=self.source,
                device=device,
                model_kwargs={"use_safetensors": True},
                **self._options(),
            )
            # the pipeline drops transformers' report on tensors, so the class that it found reads them once more
            _, report = type(loaded.model).from_pretrained(
                self.source, output_loading_info=True, use_safetensors=True, **self._options()
            )
            missing = {key for key in report["missing_keys"] if not key.endswith("masked_spec_embed")}
            report = {**report, "missing_keys": missing}
            check_tensors(self.label, loaded.model, report, advice="Take a complete checkpoint of a recogniser.")
            return loaded

    def check_weights(self, config: Any, *, pickle: bool) -> None:
        """Check the weights of a folder, or those of the hub's cache that are there already.

        Args:
            config: of the model
            pickle: whether they may be read from a pickle

        Raises:
            InputError: if they are damaged, quantised, or a pickle although ``pickle`` is False
        """
        with self.loading():
            paths = weight_files(self.folder, named=getattr(config, "transformers_weights", None))
            if not pickle and paths and ".bin" in paths[0].name:
                raise pickle_error(self.label, can_be_trusted=self.purpose != RECOGNISER)
            check_files(f"{self.label} can't be loaded", paths, advice=self._advice)
            for path in paths:
                if path.suffix == ".safetensors":
                    check_weights_are_floats(self.label, path)

    def check_settings(self) -> None:
        """Check the files other than weights.

        Raises:
            InputError: if one is damaged, the model comes with an adapter, is quantised, or brings code of its own
        """
        with self.loading():
            on_hub = [] if self._file(ADAPTER) is None else [ADAPTER]
            check_adapters(self.label, adapter_files(self.folder) if self.revision is None else on_hub)
            names = [CONFIG, *FILES[self.purpose]]
            if self.revision is not None:
                names = [name for name in names if name in SETTINGS]
            paths = [path for path in map(self._file, names) if path is not None]
            check_files(f"{self.label} can't be loaded", paths, advice=self._advice)
            settings = read_settings([path for path in paths if path.name in SETTINGS])
            code = brought_code(settings)
            if self.purpose == RECOGNISER and self._file(GENERATION_CODE):
                code = code or GENERATION_CODE
            if code and not trusted("remote_code"):
                raise own_code_error(self.label, code)
            check_config(self.label, settings.get(CONFIG, {}))
            check_extractor_settings(self.label, settings)
            if self.purpose == RECOGNISER and any(has_language_model(content) for content in settings.values()):
                check_decoder(self.label)

    @property
    def _advice(self) -> str:
        if self.revision is None:
            return "Copy or download it again."
        return f"Delete {self.folder} from the hub's cache, and run the same command again."

    def _file(self, name: str) -> Path | None:
        return find_file(self.source, name, revision=self.revision)

    def _options(self) -> dict[str, Any]:
        """Return the arguments of every loader of transformers, which state whether code may run."""
        return {"revision": self.revision, "trust_remote_code": trusted("remote_code")}

    def _failure(self, error: Exception) -> InputError:
        """Return the error that states why the model can't be loaded and what to do."""
        if "trust_remote_code" in str(error):
            return own_code_error(self.label, CONFIG)
        for path in present(self.folder, (CONFIG, *FILES[self.purpose])):
            if fault := damage(path):
                return InputError("LP303", f"{self.label} can't be loaded: {path.name} {fault}. {self._advice}")
        return loading_error(self.label, error, needed=NEEDED[self.purpose], on_hub=self.revision is not None)


def find_pretrained(
    name: str, purpose: str, *, kind: str = "encoder", folder: Path | None = None, show_download: bool = False
) -> Pretrained:
    """Find a model by its name and check the files that hold its settings; its weights are not read yet.

    Args:
        name: a transformers folder, or a hub name with an optional ``@revision``
        purpose: what will be read of it, a key of `FILES`
        kind: of model, with which messages begin
        folder: where it is, if ``name`` is no path
        show_download: whether the hub's progress bars are shown

    Raises:
        InputError: if there is no such model, a file is damaged, it comes with an adapter or is quantised, or it
            brings code that is not trusted
    """
    found = _find(name, purpose, kind=kind, folder=folder, show_download=show_download)
    if found.is_adapter:
        return _with_base(found)
    found.check_settings()
    return found


def _find(name: str, purpose: str, *, kind: str, folder: Path | None, show_download: bool) -> Pretrained:
    """Return a model or an adapter by its name; arguments as of `find_pretrained`, and no file is checked."""
    folder = Path(name) if folder is None else folder
    if folder.is_dir():
        return Pretrained(name, kind, purpose, str(folder), None, folder)
    with quiet_transformers(bars=show_download):
        try:
            repository, commit, snapshot = hub_commit(name, kind=kind)
        except InputError:
            raise
        except Exception as error:
            raise loading_error(f"{kind} {name}", error, needed=NEEDED[purpose], on_hub=True) from error
    return Pretrained(name, kind, purpose, repository, commit, snapshot, show_download)


def _with_base(found: Pretrained) -> Pretrained:
    """Return the base model of what holds a PEFT adapter alone, with that adapter.

    Raises:
        InputError: if the adapter can't be merged, or its base can't be read or is an adapter itself
    """
    adapter = read_peft_adapter(found.label, source=found.source, revision=found.revision, folder=found.folder)
    try:
        base = _find(adapter.base, found.purpose, kind=found.kind, folder=None, show_download=found.shows_download)
        if base.is_adapter:
            raise InputError("LP391", f"{adapter.base} is an adapter itself")
        base.check_settings()
    except InputError as error:
        raise base_error(adapter, error) from error
    return replace(base, name=found.name, adapter=adapter)
