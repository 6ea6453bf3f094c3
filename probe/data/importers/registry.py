"""Every corpus that can be imported, by the name that is typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from layerprobe.probe.data.importers.acted import import_crema_d, import_emo_db, import_ravdess
from layerprobe.probe.data.importers.audformat import import_audformat
from layerprobe.probe.data.importers.base import Imported
from layerprobe.probe.data.importers.emobox import import_emobox
from layerprobe.probe.data.importers.iemocap import import_iemocap
from layerprobe.probe.data.importers.msp_improv import import_msp_improv
from layerprobe.probe.data.importers.msp_podcast import import_msp_podcast
from layerprobe.probe.exceptions import InputError

IMPORTERS: dict[str, Callable[[Path], Imported]] = {
    "msp-podcast": import_msp_podcast,
    "iemocap": import_iemocap,
    "msp-improv": import_msp_improv,
    "crema-d": import_crema_d,
    "ravdess": import_ravdess,
    "emo-db": import_emo_db,
    "emobox": import_emobox,
    "audformat": import_audformat,
}


def import_corpus(corpus: str, folder: Path, *, fold: int | None = None) -> Imported:
    """Read a corpus from the folder as it ships.

    Args:
        corpus: a key of `IMPORTERS`
        folder: of the corpus
        fold: of EmoBox; its first if None

    Raises:
        InputError: if the corpus is unknown, or the folder is not its
    """
    if corpus not in IMPORTERS:
        raise InputError(f"corpus {corpus!r} is unknown; choose one of {', '.join(IMPORTERS)}.")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder. Name the folder of the corpus as it was unpacked.")
    if fold is not None:
        if corpus != "emobox":
            raise InputError(f"{corpus} has no folds of its own. Leave --fold out; sweep --folds deals speakers.")
        return import_emobox(folder, fold=fold)
    return IMPORTERS[corpus](folder)
