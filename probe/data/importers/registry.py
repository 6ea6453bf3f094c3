"""Importers by the name of their corpus on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from layerprobe.probe.data.importers.acted import import_crema_d, import_emo_db, import_ravdess
from layerprobe.probe.data.importers.audformat import import_audformat
from layerprobe.probe.data.importers.base import Imported, check_no_lfs_pointers, without_impossible_ratings
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
    """Read a corpus from its folder as it is distributed.

    Args:
        corpus: a key of `IMPORTERS`
        folder: of the corpus
        fold: of EmoBox; None for its first

    Raises:
        InputError: if the corpus is unknown, the folder is another corpus', its audio was not fetched, or a
            fold is given for another than EmoBox
    """
    if corpus not in IMPORTERS:
        raise InputError("LP150", f"corpus {corpus!r} is unknown; choose one of {', '.join(IMPORTERS)}.")
    if not folder.is_dir():
        raise InputError("LP151", f"{folder} is not a folder. Name the folder of the corpus as it was unpacked.")
    if fold is not None:
        if corpus != "emobox":
            raise InputError(
                "LP152", f"{corpus} has no folds of its own. Leave --fold out; sweep --folds assigns speakers to folds."
            )
        imported = import_emobox(folder, fold=fold)
    else:
        imported = without_impossible_ratings(IMPORTERS[corpus](folder))
    check_no_lfs_pointers(map(Path, dict.fromkeys(imported.table["path"])), imported.header.corpus)
    return imported
