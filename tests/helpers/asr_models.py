"""Small speech recognisers of the real architectures on disk; weights are random and transcripts meaningless."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def save_ctc(folder: Path) -> Path:
    """Save a wav2vec 2.0 with CTC that outputs a letter for each frame."""
    from helpers.speech_models import NARROW

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: k for k, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = Wav2Vec2ForCTC(Wav2Vec2Config(**NARROW, vocab_size=len(vocabulary), pad_token_id=0))
        with torch.no_grad():  # letters that differ from frame to frame, not one answer for all
            model.lm_head.weight.mul_(20)
    model.eval().save_pretrained(folder)
    return folder


def save_whisper(folder: Path, *, languages: Sequence[str] = ()) -> Path:
    """Save a Whisper with a vocabulary of a few sentences, for one language or for those of these codes."""
    from helpers.speech_models import WHISPER
    from helpers.text_models import SENTENCES

    folder.mkdir(parents=True, exist_ok=True)
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|transcribe|>", "<|translate|>", "<|startoflm|>"]
    special += [f"<|{code}|>" for code in languages]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(SENTENCES, vocab_size=400)
    trained.save_model(str(folder))
    tokenizer = WhisperTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        unk_token=special[0], bos_token=special[0], eos_token=special[0], pad_token=special[0],
        additional_special_tokens=special,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in special}
    config = WhisperConfig(
        **WHISPER | {"vocab_size": len(tokenizer), "pad_token_id": ids["<|endoftext|>"]}
        | {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|endoftext|>"]}
        | {"decoder_start_token_id": ids["<|startoftranscript|>"], "max_target_positions": 40},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = WhisperForConditionalGeneration(config)
    generation = model.generation_config
    generation.no_timestamps_token_id, generation.is_multilingual = ids["<|notimestamps|>"], bool(languages)
    if languages:
        generation._from_model_config = False  # else transformers drops what is set here when it loads it
        generation.lang_to_id = {f"<|{code}|>": ids[f"<|{code}|>"] for code in languages}
        generation.task_to_id = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    generation.prev_sot_token_id, generation.max_length = ids["<|startofprev|>"], 20
    generation.suppress_tokens, generation.begin_suppress_tokens = None, None
    model.eval().save_pretrained(folder)
    return folder
