"""Hooks on an encoder's blocks tell the states between them, for sound and for text alike."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor, nn

from layerprobe.probe.layer_names import layer_names


def tensors_hash(module: nn.Module, *, never_read: Collection[str] = ()) -> str:
    """Sixteen hex digits over name, shape and bytes of every tensor but those that no layer is made of."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if name not in never_read:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class HookedEncoder:
    """A transformers encoder whose blocks tell their states, in any number of threads at once."""

    def __init__(self, encoder: Any, blocks: nn.ModuleList, final_norm: nn.Module | None) -> None:
        """Hook what is called, its blocks in order, and the norm after the last of them where there is one."""
        self.encoder, self.blocks, self.final_norm = encoder, blocks, final_norm
        self._told = threading.local()  # each thread's states of the pass that it runs
        self.blocks[0].register_forward_pre_hook(self._enters, with_kwargs=True)
        for module in [*self.blocks] if self.final_norm is None else [*self.blocks, self.final_norm]:
            module.register_forward_hook(self._leaves)

    @property
    def layers(self) -> tuple[str, ...]:
        """Their names."""
        return layer_names(len(self.blocks), final_norm=self.final_norm is not None)

    @property
    def n_layers(self) -> int:
        """States of a pass."""
        return len(self.blocks) + (1 if self.final_norm is None else 2)

    def states(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """All frames of each layer, ``n_layers`` tensors ``(n_inputs, n_frames, dim)`` float32."""
        parameter = next(self.encoder.parameters())
        placed = {
            name: x.to(parameter.device, parameter.dtype if x.is_floating_point() else x.dtype)
            for name, x in inputs.items()
        }
        return self.run_with_hooks(lambda: self.encoder(**placed))

    def run_with_hooks(self, run: Callable[[], object]) -> list[Tensor]:
        """The same of whatever call passes once through all blocks."""
        states: list[Tensor] = []
        self._told.states = states
        try:
            run()
        finally:
            self._told.states = None
        if len(states) != self.n_layers:
            name = type(self.encoder).__name__
            raise RuntimeError(f"{name} gave {len(states)} states for {self.n_layers} layers")
        return [state.float() for state in states]

    def _enters(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._tell(args[0] if args else kwargs["hidden_states"])

    def _leaves(self, _: nn.Module, __: Any, output: Any) -> None:
        self._tell(output[0] if isinstance(output, tuple) else output)

    def _tell(self, state: Tensor) -> None:
        if (states := getattr(self._told, "states", None)) is not None:
            states.append(state)
