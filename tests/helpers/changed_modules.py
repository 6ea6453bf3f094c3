"""Changes of a module of an encoder after which it computes something else than its configuration promises."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize


class Wrapped(nn.Module):
    """A product with an adapter of low rank, as PEFT wraps one."""

    def __init__(self, inner, rank=2):
        super().__init__()
        self.inner, self.weight, self.bias = inner, inner.weight, inner.bias
        generator = torch.Generator().manual_seed(2)
        self.down = nn.Parameter(torch.randn(rank, inner.in_features, generator=generator))
        self.up = nn.Parameter(torch.randn(inner.out_features, rank, generator=generator))

    def forward(self, x):
        return self.inner(x) + x @ self.down.T @ self.up.T


class Subclass(nn.Linear):
    """A product of another type with the attributes of the usual one."""

    def forward(self, x):
        return 2 * super().forward(x)


class Doubled(nn.Module):
    """A parametrisation that doubles a weight."""

    def forward(self, weight):
        return 2 * weight


def wrap_a_query(model):
    attention = model.encoder.layers[1].attention
    attention.q_proj = Wrapped(attention.q_proj)


def another_type(model):
    old = model.encoder.layers[1].feed_forward.output_dense
    new = Subclass(old.in_features, old.out_features)
    new.load_state_dict(old.state_dict())
    model.encoder.layers[1].feed_forward.output_dense = new


def a_parametrised_weight(model):
    parametrize.register_parametrization(model.encoder.layers[0].feed_forward.intermediate_dense, "weight", Doubled())


def a_second_parametrisation(model):
    parametrize.register_parametrization(model.encoder.pos_conv_embed.conv, "weight", Doubled())


def a_hook(model):
    model.encoder.layers[2].register_forward_hook(lambda *args: 2 * args[-1] if torch.is_tensor(args[-1]) else None)


def a_hook_before(model):
    model.feature_projection.projection.register_forward_pre_hook(lambda _, args: (2 * args[0],))


def another_forward(model):
    norm = model.encoder.layer_norm
    norm.forward = lambda x: 2 * functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def another_activation(model):
    model.encoder.layers[0].feed_forward.intermediate_act_fn = nn.SiLU()


def another_scale(model):
    model.encoder.layers[0].attention.scaling *= 3


CHANGES = [
    wrap_a_query, another_type, a_parametrised_weight, a_second_parametrisation, a_hook, a_hook_before, another_forward,
    another_activation, another_scale,
]  # fmt: skip
