"""Names of tensors and settings in checkpoints of torchaudio and fairseq, as transformers has them.

The names of fairseq are those of torchaudio's ``import_fairseq_model`` and of transformers' conversion scripts for
wav2vec 2.0, HuBERT and WavLM, whose encoders differ in nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

_FAIRSEQ = (  # of wav2vec 2.0, HuBERT and WavLM (unilm); patterns in order
    (r"^(?:w2v_encoder\.)?(?:w2v_model|hubert_model)\.", ""),  # within a fine-tuned recogniser
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2(?:\.1)?\.", r"\1.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^mask_emb$", "masked_spec_embed"),
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.relative_attention_bias\.", r"\1.attention.rel_attn_embed."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.grep_linear\.", r"\1.attention.gru_rel_pos_linear."),
    (r"^(encoder\.layers\.\d+)\.self_attn\.grep_a$", r"\1.attention.gru_rel_pos_const"),
    (r"^(encoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"^(encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.layer_norm."),
    (r"^(encoder\.layers\.\d+)\.fc1\.", r"\1.feed_forward.intermediate_dense."),
    (r"^(encoder\.layers\.\d+)\.fc2\.", r"\1.feed_forward.output_dense."),
)
_TORCHAUDIO = (
    (r"^model\.", ""),  # around which torchaudio normalises the waveform
    (r"^wav2vec2\.", ""),  # within HuBERT with the head of its pre-training
    (r"^encoder\.feature_projection\.", "feature_projection."),
    (r"^encoder\.transformer\.", "encoder."),
    (r"^mask_generator\.mask_embedding$", "masked_spec_embed"),
    (r"\.attention\.attention\.out_proj\.", ".attention.out_proj."),  # of WavLM
)
_WEIGHT_NORM = (
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)
CONVOLUTIONS = ((10, 5), *(((3, 2),) * 4), *(((2, 2),) * 2))  # kernel and stride of every published encoder
HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16}  # by width, of every published encoder
_CONVOLUTION_TERM = re.compile(r"\[\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)\](?:\s*\*\s*(\d+))?")
_MASK = "masked_spec_embed"
BUNDLE = "torchaudio:"  # begins the name of one of torchaudio's bundles, as in torchaudio:HUBERT_BASE
SUFFIXES = (".pt", ".pth", ".ckpt")


def is_foreign(name: str) -> bool:
    """Return whether a name is that of a bundle of torchaudio or of a checkpoint's file.

    >>> [is_foreign(name) for name in ("torchaudio:HUBERT_BASE", "hubert_base_ls960.pt", "team/model")]
    [True, True, False]
    """
    return name.startswith(BUNDLE) or (Path(name).suffix in SUFFIXES and not Path(name).is_dir())


def is_fairseq(names: Mapping[str, Any]) -> bool:
    """Return whether tensors have fairseq's names, and not those of torchaudio."""
    return any(re.search(r"(^|\.)post_extract_proj\.|\.self_attn\.", name) for name in names)


def transformers_names(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint of torchaudio or fairseq under the names that transformers has.

    >>> import torch
    >>> list(transformers_names({"encoder.transformer.layers.0.layer_norm.bias": torch.ones(2)}))
    ['encoder.layers.0.layer_norm.bias']
    >>> list(transformers_names({"encoder.layers.0.self_attn.q_proj.bias": torch.ones(2)}))
    ['encoder.layers.0.attention.q_proj.bias']
    """
    table = _FAIRSEQ if is_fairseq(tensors) else _TORCHAUDIO
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            continue
        for pattern, replacement in (*table, *_WEIGHT_NORM):
            name = re.sub(pattern, replacement, name)
        if stacked := re.search(r"\.attention\.attention\.in_proj_(weight|bias)$", name):  # torchaudio's WavLM
            for part, third in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
                renamed[f"{name[: stacked.start()]}.attention.{part}.{stacked[1]}"] = third
        else:
            renamed[name] = tensor.flatten() if name == _MASK else tensor
    return renamed


def model_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a model that a checkpoint of fairseq, s3prl or unilm holds next to its tensors.

    Those of the encoder within a fine-tuned recogniser come first, and ``normalize`` is that of its task.
    """
    found: dict[str, Any] = {}
    for key in ("args", "cfg", "model_cfg", "task_cfg"):
        found |= _flat(stored.get(key))
    if inner := found.get("w2v_args"):
        found |= {**_flat(inner), "normalize": found.get("normalize", _flat(inner).get("normalize"))}
    return found


def _flat(settings: Any) -> dict[str, Any]:
    """Return settings as one dictionary, whether they are fairseq's groups, a flat dictionary or parsed arguments."""
    settings = getattr(settings, "__dict__", settings)
    if not isinstance(settings, Mapping):
        return {}
    flat = dict(settings)
    for group in ("task", "model"):
        inner = getattr(flat.get(group), "__dict__", flat.get(group))
        if isinstance(inner, Mapping):
            flat |= dict(inner)
    return flat


def settings_of(tensors: Mapping[str, Tensor], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a transformers configuration that fit tensors, named as in transformers.

    Args:
        tensors: of a wav2vec 2.0, HuBERT or WavLM encoder
        stored: settings of fairseq, of which the number of heads, the order of norms and the strides are read; where
            they are missing, those of the published encoders of that width

    Raises:
        KeyError: if a tensor that every such encoder has is missing, or the number of heads is not known
    """
    n_convolutions = sum(bool(re.fullmatch(r"feature_extractor\.conv_layers\.\d+\.conv\.weight", k)) for k in tensors)
    kernels = [tensors[f"feature_extractor.conv_layers.{k}.conv.weight"] for k in range(n_convolutions)]
    position = tensors["encoder.pos_conv_embed.conv.parametrizations.weight.original1"]
    dim = len(tensors["feature_projection.projection.bias"])
    pre_norm = "feature_extractor.conv_layers.1.layer_norm.weight" in tensors
    settings: dict[str, Any] = {
        "hidden_size": dim,
        "num_hidden_layers": sum(k.endswith(".final_layer_norm.weight") for k in tensors),
        "num_attention_heads": _heads(tensors, stored, dim),
        "intermediate_size": len(tensors["encoder.layers.0.feed_forward.intermediate_dense.bias"]),
        "conv_dim": [int(kernel.shape[0]) for kernel in kernels],
        "conv_kernel": [int(kernel.shape[2]) for kernel in kernels],
        "conv_stride": _strides(stored, [int(kernel.shape[2]) for kernel in kernels]),
        "num_feat_extract_layers": n_convolutions,
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in tensors,
        "feat_extract_norm": "layer" if pre_norm else "group",
        "do_stable_layer_norm": bool(stored.get("layer_norm_first", pre_norm)),
        "num_conv_pos_embeddings": int(position.shape[2]),
        "num_conv_pos_embedding_groups": dim // int(position.shape[1]),
    }
    if (relative := tensors.get("encoder.layers.0.attention.rel_attn_embed.weight")) is not None:
        settings |= {"num_buckets": int(relative.shape[0]), "max_bucket_distance": int(stored.get("max_distance", 800))}
    return settings


def _heads(tensors: Mapping[str, Tensor], stored: Mapping[str, Any], dim: int) -> int:
    if (relative := tensors.get("encoder.layers.0.attention.rel_attn_embed.weight")) is not None:
        return int(relative.shape[1])
    return int(stored.get("encoder_attention_heads") or HEADS[dim])


def _strides(stored: Mapping[str, Any], kernels: list[int]) -> list[int]:
    """Return the strides of the convolutions, which fairseq writes as ``[(512,10,5)] + [(512,3,2)] * 4``.

    Raises:
        KeyError: if they are not stated and the kernels are others than those of published encoders
    """
    terms = _CONVOLUTION_TERM.findall(str(stored.get("conv_feature_layers", "")))
    strides = [int(stride) for _, _, stride, times in terms for _ in range(int(times or 1))]
    if len(strides) == len(kernels):
        return strides
    if tuple(kernels) == tuple(kernel for kernel, _ in CONVOLUTIONS):
        return [stride for _, stride in CONVOLUTIONS]
    raise KeyError("conv_feature_layers")


def model_type(tensors: Mapping[str, Any], hint: str) -> str:
    """Return the ``model_type`` of an encoder by its tensors and by what its checkpoint or file is called."""
    if any(".gru_rel_pos_" in name for name in tensors):
        return "wavlm"
    return "hubert" if "hubert" in hint.lower() else "wav2vec2"
