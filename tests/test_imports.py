"""The direction of imports: probe, analysis, figures, and within probe from the first file to the last."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("probe", "analysis", "figures")
PROBE = (
    "errors storage cores progress verbs manifest "
    "synthesiser demo_corpus plan audio families products lean_encoder pooling upstream "
    "hooked encoder acoustic hub text checkpoint "
    "precision doctor claims journal sound_hashes sources transcripts word_errors transcribe "
    "cache cache_writer compaction cache_check hearing foresight "
    "extract cache_repair shards processes dask_cluster dask_shards splits "
    "transfer metrics class_metrics controls words grams tridiagonal ridge_algebra device_algebra ridge draw_ridge "
    "beyond_text description_length score_table targets columns training_sets layer_stack layer_scaling lbfgs "
    "mix_problem weighted_sum estimators featurizer_replay logistic mlp layer_probes mix_probes fusion baselines "
    "unfinished sweep_plan sweep_input sweep_units sweep cache_precision control_caches "
    "branches frame_pooling audio_text batching ccc_loss "
    "tensor_files train_plan freezing rated_sounds training regressor_folder train trainable predict export "
    "parameters unlabelled student distil "
    "units sounds_in_memory masked_prediction pretrain spoken_corpus training_verbs pretrain_verbs "
    "extraction_verbs cache_verbs"
).split()
FIGURES = (
    "style layer_axis cells cell_sheet panels heatmap curves weights depth similarity wins efficiency "
    "draw sections report demo verbs "
    "transcript_verbs corpus manifest_verbs"
).split()
ANALYSIS = (
    "corpus relevance weights bootstrap sampled class_sums score_draws best_set permutation choice depth partition "
    "regressors fairness runs cka cca rsa similarity transcript_errors study findings find sentences caveats methods "
    "compare_layers"
).split()
IMPORTERS = "imported msp_podcast iemocap msp_improv acted emobox audformat_databases corpora probed_audio".split()
BEFORE_IMPORTERS = PROBE[: PROBE.index("transcripts") + 1]  # of which a corpus' importer may make use
ORDER = {"probe": PROBE, "analysis": ANALYSIS, "figures": FIGURES}


def imported_modules(source: str) -> set[str]:
    """Every dotted name that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def violations(stage: str, module: str, source: str) -> list[str]:
    """Imports against the direction of data."""
    wrong = []
    for name in imported_modules(source):
        package, _, rest = name.partition(".")
        if package == "layerprobe" or (package in STAGES and STAGES.index(package) > STAGES.index(stage)):
            wrong.append(name)
        elif package == stage and ORDER[stage].index(rest) >= ORDER[stage].index(module):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_has_its_place_in_the_order(stage):
    files = {path.stem for path in (ROOT / stage).glob("*.py")} - {"__init__"}
    assert files == set(ORDER[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_imports_go_one_way(stage):
    for module in ORDER[stage]:
        assert violations(stage, module, (ROOT / stage / f"{module}.py").read_text()) == []


def test_importers_of_corpora_know_manifests_and_transcripts_alone():
    folder = ROOT / "probe" / "importers"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(IMPORTERS)
    for place, module in enumerate(IMPORTERS):
        for name in imported_modules((folder / f"{module}.py").read_text()):
            package, _, rest = name.partition(".")
            assert package not in ("analysis", "figures", "layerprobe")
            if rest.startswith("importers."):
                assert IMPORTERS.index(rest.partition(".")[2]) < place
            elif package == "probe":
                assert rest in BEFORE_IMPORTERS


def test_the_rule_catches_imports_against_the_direction():
    assert violations("probe", "ridge", "import analysis.findings") == ["analysis.findings"]
    assert violations("probe", "ridge", "def f():\n    from probe.sweep import sweep") == ["probe.sweep"]
    assert violations("figures", "heatmap", "from analysis.relevance import best_layer") == []


@pytest.mark.parametrize(("module", "banned"), [("analysis.findings", ("torch", "zarr")), ("layerprobe", ("torch",))])
def test_heavy_libraries_are_not_loaded(module, banned):
    code = f"import sys, {module}; print([b for b in {banned} if b in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_no_file_is_a_surprise():
    lengths = {p: len(p.read_text().splitlines()) for p in ROOT.glob("**/*.py") if ".venv" not in p.parts}
    assert {str(p): n for p, n in lengths.items() if n > 400} == {}
