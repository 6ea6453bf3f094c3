"""Forward hooks on an encoder's blocks record the hidden states between them, for audio and text alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from layerprobe.probe.layer_names import layer_names


class HookedEncoder:
    """A transformers encoder whose blocks record their hidden states, in any number of threads at once."""

    def __init__(self, encoder: Any, blocks: nn.ModuleList, final_norm: nn.Module | None) -> None:
        """Register hooks on the blocks, which are in order, and on the norm after the last where there is one."""
        self.encoder, self.blocks, self.final_norm = encoder, blocks, final_norm
        self._recorded = threading.local()  # each thread's states of the forward pass that it runs
        self.blocks[0].register_forward_pre_hook(self._record_input, with_kwargs=True)
        for module in [*self.blocks] if self.final_norm is None else [*self.blocks, self.final_norm]:
            module.register_forward_hook(self._record_output)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in order."""
        return layer_names(len(self.blocks), final_norm=self.final_norm is not None)

    @property
    def n_layers(self) -> int:
        """Number of hidden states that one forward pass gives."""
        return len(self.blocks) + (1 if self.final_norm is None else 2)

    def states(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Run the encoder and return the frames of each layer.

        Args:
            inputs: keyword arguments of the encoder, moved to its device and dtype here

        Returns:
            ``n_layers`` tensors ``(n_inputs, n_frames, dim)`` float32
        """
        parameter = next(self.encoder.parameters())
        if parameter.is_cuda:  # pinned, so that the host does not wait for what runs there
            inputs = {name: x.pin_memory() if x.device.type == "cpu" else x for name, x in inputs.items()}
        there = {name: x.to(parameter.device, non_blocking=parameter.is_cuda) for name, x in inputs.items()}
        moved = {name: x.to(parameter.dtype) if x.is_floating_point() else x for name, x in there.items()}
        return self.run_with_hooks(lambda: self.encoder(**moved))

    def run_with_hooks(self, run: Callable[[], object]) -> list[Tensor]:
        """Run a callable that calls every block once and return the hidden states recorded by the hooks.

        Returns:
            ``n_layers`` tensors ``(n_inputs, n_frames, dim)`` float32

        Raises:
            RuntimeError: if another number of states was recorded
        """
        states: list[Tensor] = []
        self._recorded.states = states
        try:
            run()
        finally:
            self._recorded.states = None
        if len(states) != self.n_layers:
            name = type(self.encoder).__name__
            raise RuntimeError(f"{name} gave {len(states)} states for {self.n_layers} layers")
        return [state.float() for state in states]

    def _record_input(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._record(args[0] if args else kwargs["hidden_states"])

    def _record_output(self, _: nn.Module, __: Any, output: Any) -> None:
        self._record(output)

    def _record(self, state: Any) -> None:
        if (states := getattr(self._recorded, "states", None)) is not None:
            states.append(frames_of(state))


def frames_of(state: Any) -> Tensor:
    """Return the frames of what a block takes or gives: of ESPnet a tuple, as of transformers, or one within one."""
    while isinstance(state, tuple):
        state = state[0]
    frames: Tensor = state
    return frames
