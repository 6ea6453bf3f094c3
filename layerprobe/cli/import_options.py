"""Options of ``manifest import``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layerprobe.probe.training.options import option

if TYPE_CHECKING:
    from layerprobe.probe.data.importers.registry import ImportOptions


@dataclass(frozen=True)
class SourceOptions:
    """Choices on a dataset whose columns are its own, or on EmoBox."""

    columns: tuple[str, ...] = option(
        (),
        name="map",
        alias="column",
        metavar="NAME=COLUMN",
        help="Column of the source for one of the manifest, or a template such as {session}_{file} (several, or "
        "repeated).",
    )
    scales: tuple[str, ...] = option(
        (), name="scale", metavar="NAME=LOW:HIGH", help="Ends of the scale of a rated target (several, or repeated)."
    )
    classes: tuple[str, ...] = option(
        (),
        name="classes",
        metavar="NAME[=A,B]",
        help="Nominal target, and its classes; those that occur by default (several, or repeated).",
    )
    utterance_id: str | None = option(
        None, name="id", metavar="TEMPLATE", help="Column or template of utterance ids, such as {file}."
    )
    audio: Path | None = option(None, help="Folder of the audio files of a table; that of the table by default.")
    splits: tuple[str, ...] = option(
        (), name="split", metavar="NAME", help="Split of a Hugging Face dataset (repeatable)."
    )
    subset: str | None = option(None, metavar="NAME", help="Subset (configuration) of a Hugging Face dataset.")
    no_speakers: bool = option(False, help="Import without speakers; scores may then be too optimistic.")
    fold: int | None = option(None, low=1, help="Fold of EmoBox; the first by default.")

    def settings(self) -> ImportOptions:
        """Return the options as those of the importers.

        Raises:
            InputError: if one can't be read
        """
        from layerprobe.probe.data.importers.choices import parse_choices
        from layerprobe.probe.data.importers.registry import ImportOptions

        choices = parse_choices(
            self.columns,
            self.scales,
            self.classes,
            utterance_id=self.utterance_id,
            speakers=not self.no_speakers,
        )
        return ImportOptions(
            choices.columns,
            choices.scales,
            choices.classes,
            choices.speakers,
            splits=self.splits,
            subset=self.subset,
            audio=self.audio,
            fold=self.fold,
        )
