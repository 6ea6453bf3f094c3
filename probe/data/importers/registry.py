"""Importers by the name of their corpus, or of the format of a source, on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from layerprobe.probe.data.importers.acted import import_crema_d, import_emo_db, import_ravdess
from layerprobe.probe.data.importers.audformat import import_audformat
from layerprobe.probe.data.importers.base import Imported, check_no_lfs_pointers, without_impossible_ratings
from layerprobe.probe.data.importers.choices import ColumnChoices
from layerprobe.probe.data.importers.emobox import import_emobox
from layerprobe.probe.data.importers.hf import import_hf
from layerprobe.probe.data.importers.iemocap import import_iemocap
from layerprobe.probe.data.importers.labelled_table import import_table
from layerprobe.probe.data.importers.lhotse_cuts import import_lhotse
from layerprobe.probe.data.importers.msp_conversation import import_msp_conversation
from layerprobe.probe.data.importers.msp_improv import import_msp_improv
from layerprobe.probe.data.importers.msp_podcast import import_msp_podcast
from layerprobe.probe.data.importers.recola import import_recola
from layerprobe.probe.data.importers.webdataset import import_webdataset
from layerprobe.probe.data.stored.locations import file_of, scheme_of
from layerprobe.probe.exceptions import InputError

IMPORTERS: dict[str, Callable[[Path], Imported]] = {  # of corpora, from the folder of each
    "msp-podcast": import_msp_podcast,
    "iemocap": import_iemocap,
    "msp-improv": import_msp_improv,
    "msp-conversation": import_msp_conversation,
    "recola": import_recola,
    "crema-d": import_crema_d,
    "ravdess": import_ravdess,
    "emo-db": import_emo_db,
    "emobox": import_emobox,
    "audformat": import_audformat,
}
OF_COLUMNS = ("columns", "scales", "classes", "speakers")  # options of every source
SOURCES = {  # formats of datasets with columns of their own, and the options that each has
    "hf": (*OF_COLUMNS, "splits", "subset"),
    "webdataset": OF_COLUMNS,
    "lhotse": OF_COLUMNS,
    "table": (*OF_COLUMNS, "audio"),
}
OPTION_NAMES = {"columns": "map", "scales": "scale", "splits": "split", "speakers": "no-speakers"}  # where they differ


@dataclass(frozen=True)
class ImportOptions(ColumnChoices):
    """Choices on a source whose columns are its own, or on EmoBox; the other corpora need none."""

    splits: tuple[str, ...] = ()  # of a Hugging Face dataset; () for all
    subset: str | None = None  # of a Hugging Face dataset with several
    audio: Path | None = None  # folder of the audio files of a table
    fold: int | None = None  # of EmoBox; None for its first


NO_OPTIONS = ImportOptions()


def import_corpus(corpus: str, source: str | Path, options: ImportOptions = NO_OPTIONS) -> Imported:
    """Read a corpus from its folder as it is distributed, or a dataset in a common format.

    Args:
        corpus: a key of `IMPORTERS` or of `SOURCES`
        source: folder of the corpus; of ``hf`` also a table or a name on the hub, of ``webdataset`` a pattern of
            shards, of ``lhotse`` a manifest, of ``table`` a table
        options: choices on a source's columns, on EmoBox' fold

    Raises:
        InputError: if the corpus is unknown, the folder is another corpus', its audio was not fetched, an option is
            given that the corpus has not, or choices do not fit the source
    """
    if corpus not in IMPORTERS and corpus not in SOURCES:
        raise InputError("LP150", f"corpus {corpus!r} is unknown; choose one of {', '.join((*IMPORTERS, *SOURCES))}.")
    _check_options(corpus, options)
    if corpus in SOURCES:
        return _import_source(corpus, str(source), options)
    folder = Path(source)
    if not folder.is_dir():
        raise InputError("LP151", f"{folder} is not a folder. Name the folder of the corpus as it was unpacked.")
    if options.fold is not None:
        imported = import_emobox(folder, fold=options.fold)
    else:
        imported = without_impossible_ratings(IMPORTERS[corpus](folder))
    _check_files(imported)
    return imported


def _import_source(corpus: str, source: str, options: ImportOptions) -> Imported:
    if corpus == "hf":
        imported = import_hf(source, options, splits=options.splits, subset=options.subset)
    elif corpus == "webdataset":
        imported = import_webdataset(source, options)
    elif corpus == "lhotse":
        imported = import_lhotse(Path(source).expanduser(), options)
    else:
        imported = import_table(Path(source).expanduser(), options, audio=options.audio)
    _check_files(imported)
    return imported


def _check_options(corpus: str, options: ImportOptions) -> None:
    """Check that no option is given that the importer has not.

    Raises:
        InputError: naming the first one
    """
    known = SOURCES.get(corpus, ("fold",) if corpus == "emobox" else ())
    for field in fields(options):
        if getattr(options, field.name) != getattr(NO_OPTIONS, field.name) and field.name not in known:
            name = OPTION_NAMES.get(field.name, field.name)
            raise InputError("LP152", f"manifest import {corpus} has no option --{name}. Leave it out.")


def _check_files(imported: Imported) -> None:
    files = dict.fromkeys(file_of(path) for path in dict.fromkeys(imported.table["path"]))
    check_no_lfs_pointers((Path(file) for file in files if not scheme_of(file)), imported.header.corpus)
