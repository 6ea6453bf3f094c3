"""Foreign code runs only if the user allows it: neither from a pickle nor from a model's folder."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.asr_models import save_ctc
from helpers.command_line import script_environment
from helpers.speech_models import load_exact
from helpers.text_models import save_text_model
from safetensors.torch import load_file

from layerprobe.probe.data.asr import load_recogniser
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import TRUST, trust

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def without_trust(monkeypatch):
    for name in TRUST.values():
        monkeypatch.delenv(name, raising=False)


def pickled(folder, to):
    shutil.copytree(folder, to)
    torch.save(load_file(to / "model.safetensors"), to / "pytorch_model.bin")
    (to / "model.safetensors").unlink()
    return to


def test_a_pickle_is_refused_unless_it_is_trusted(folders, tmp_path, monkeypatch):
    folder = pickled(folders["hubert"], tmp_path / "pickle")
    with pytest.raises(InputError, match=r"pickle: its weights are a pickle, which can run code.*--trust-pickle"):
        load_audio_encoder(str(folder))
    load_audio_encoder(str(folder), random_init=0)  # nothing is read
    text = pickled(save_text_model("bert", tmp_path / "bert"), tmp_path / "pickled-bert")
    with pytest.raises(InputError, match="its weights are a pickle"):
        load_text_encoder(str(text))
    monkeypatch.setenv(TRUST["pickle"], "")
    trust("pickle")
    assert load_exact(folder).weights_hash() == load_exact(folders["hubert"]).weights_hash()


def test_a_pickle_next_to_safetensors_is_not_read(folders, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(folders["hubert"], folder)
    (folder / "pytorch_model.bin").write_bytes(b"no pickle at all")
    assert load_exact(folder).weights_hash() == load_exact(folders["hubert"]).weights_hash()


def test_a_folders_own_code_is_not_run_unless_it_is_trusted(folders, tmp_path):
    folder, mark = tmp_path / "theirs", tmp_path / "it ran"
    shutil.copytree(folders["hubert"], folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        f"from pathlib import Path\nfrom transformers import HubertConfig\nPath({str(mark)!r}).touch()\n"
        "class Own(HubertConfig):\n    model_type = 'theirs'\n"
    )
    with pytest.raises(
        InputError,
        match=r"theirs brings code of its own \(own\.Own in config\.json\)\. Read it, and add --trust-remote-code",
    ):
        load_audio_encoder(str(folder))
    assert not mark.exists()
    arguments = [
        "check-encoder",
        "--encoder",
        str(folder),
        "--trust-remote-code",
    ]  # after the command, as one would type it
    done = subprocess.run(
        [sys.executable, "-m", "layerprobe", *arguments], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
    )  # fmt: skip
    assert mark.exists()
    assert "is a 'theirs' model; supported are" in done.stderr  # it needs an adapter still


MARKED = "from pathlib import Path\nPath({mark!r}).touch()\n"
EVERYTHING = (
    "AutoConfig", "AutoModel", "AutoFeatureExtractor", "AutoProcessor", "AutoTokenizer", "AutoModelForCTC",
)  # fmt: skip
LOADERS = """
import sys
from layerprobe.probe.data.asr import load_recogniser
from layerprobe.probe.encoders.loading import load_audio_encoder, load_encoder, load_model
from layerprobe.probe.encoders.text import load_text_encoder, reads_text
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.hub import trust
from layerprobe.probe.cost.parameter_count import load_model_spec

every = (load_encoder, load_audio_encoder, load_model, load_text_encoder, reads_text, load_model_spec, load_recogniser)
for folder in sys.argv[4:]:
    for load in every:
        try:
            load(folder)
        except InputError as error:
            print(error)
trust("remote_code")
for folder in sys.argv[1:4]:
    encoder = load_audio_encoder(folder, device="cpu")
    print("trusted", encoder.architecture, encoder.forward, encoder.weights_hash())
"""


def with_code(folder, to, file, classes, code):
    """A copy whose ``file`` names code of its own for each of ``classes``."""
    shutil.copytree(folder, to)
    content = json.loads((to / file).read_text()) | {"auto_map": dict.fromkeys(classes, "own.Own")}
    (to / file).write_text(json.dumps(content))
    (to / "own.py").write_text(code)
    return to


def test_no_loader_runs_a_folders_code_whatever_is_answered_and_trusted_code_is_hashed(folders, tmp_path):
    """Configuration, extractor, tokenizer, processor and model bring code, where transformers knows the architecture.

    Trusted, the same weights under other code are another encoder.
    """
    mark, text, ctc = tmp_path / "it ran", save_text_model("bert", tmp_path / "bert"), save_ctc(tmp_path / "ctc")
    files = [(folders["hubert"], "config.json"), (folders["hubert"], "preprocessor_config.json")]
    files += [(text, "config.json"), (text, "tokenizer_config.json"), (ctc, "config.json")]
    files += [(ctc, "processor_config.json"), (ctc, "tokenizer_config.json")]
    code = MARKED.format(mark=str(mark)) + "class Own:\n    pass\n"
    made = [with_code(one, tmp_path / f"{one.name}-{file}", file, EVERYTHING, code) for one, file in files]
    unknown = with_code(folders["hubert"], tmp_path / "unknown", "config.json", EVERYTHING, code)
    config = json.loads((unknown / "config.json").read_text())
    (unknown / "config.json").write_text(json.dumps(config | {"model_type": "theirs"}))
    own = "from transformers import HubertModel\n\n\nclass Own(HubertModel):\n    pass\n"
    trusted = [
        with_code(folders["hubert"], tmp_path / f"theirs{k}", "config.json", ["AutoModel"], own + more)
        for k, more in enumerate(("", "    factor = 2\n", "    factor = 2\n"))
    ]
    done = subprocess.run(
        [sys.executable, "-c", LOADERS, *map(str, [*trusted, *made, unknown])], input="y\n" * 200, capture_output=True,
        text=True, cwd=ROOT, env=script_environment() | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert "Do you wish to run the custom code" not in done.stdout + done.stderr
    for folder in [*made, unknown]:
        assert f"{folder} brings code of its own (own.Own in " in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("trusted")]
    assert [line[1:3] for line in lines] == [["Own", "transformers"]] * 3
    assert lines[0][3] != lines[1][3] == lines[2][3]


def test_a_generation_of_its_own_and_a_kernel_of_the_hub_are_code(folders, tmp_path):
    ctc = save_ctc(tmp_path / "ctc")
    (ctc / "custom_generate").mkdir()
    (ctc / "custom_generate" / "generate.py").write_text("1 / 0")
    with pytest.raises(InputError, match=r"recogniser .* brings code of its own \(custom_generate/generate\.py\)"):
        load_recogniser(str(ctc))
    folder = tmp_path / "kernel"
    shutil.copytree(folders["hubert"], folder)
    config = json.loads((folder / "config.json").read_text()) | {"attn_implementation": "someone/attention"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"code of its own \(the attention kernel someone/attention in config\.json\)"):
        load_audio_encoder(str(folder))


def calls_a_loader(node: ast.AST) -> bool:
    """Whether it is a call, and not the text of one, of what loads a model or a pickle."""
    pattern = r"(.*\.)?(from_pretrained|pipeline)|(.*\.)?AutoModel\w*\.from_config|torch\.load"
    return isinstance(node, ast.Call) and bool(re.fullmatch(pattern, ast.unparse(node.func)))


def test_transformers_loaders_are_called_in_one_place():
    """Elsewhere a call could leave out whether code may run, and transformers would ask on standard input."""
    calls = {
        str(path.relative_to(ROOT))
        for top in ("probe", "analysis", "figures", "layerprobe")
        for path in (ROOT / top).rglob("*.py")
        if not path.is_symlink() and any(map(calls_a_loader, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert calls == {"probe/pretrained.py", "probe/model_size.py", "probe/pickles.py"}
