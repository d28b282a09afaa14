"""A model as a graph of operators, which computes any model of the same architecture."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.export.graph_signature import InputKind
from torch.fx import Interpreter, Node

from fedbench.util.errors import RunError
from fedbench.util.quiet import quiet_export

T = TypeVar("T")


class Program:
    """The graph that `torch.export` makes of a model in evaluation mode.

    The model is not changed; of the inputs (N, ...) the shape and the type are read. Raises `RunError` if the model
    cannot be exported, as where its control flow depends on data.
    """

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        self.zeros = inputs.new_zeros((2, *inputs.shape[1:]))
        try:
            with quiet_export():
                exported = export(
                    copy.deepcopy(model).eval(),
                    (self.zeros,),
                    dynamic_shapes=({0: Dim.AUTO},),  # (B, ...)
                )
        except Exception as error:
            name, said = type(model).__name__, f"{type(error).__name__}: {error}".splitlines()[0]
            raise RunError(f"torch.export cannot take the model {name}, so its units are unknown: {said}") from None
        self.graph = exported.graph_module
        self._inputs = [(each.kind, each.target) for each in exported.graph_signature.input_specs]
        self._constants = exported.constants

    def arguments(self, model: nn.Module, inputs: Tensor) -> list[object]:
        """What the graph is called with, by which a `torch.fx.Interpreter` runs it: `model`'s own tensors."""
        tensors = named_tensors(model)
        own = (InputKind.PARAMETER, InputKind.BUFFER)
        return [
            inputs
            if kind == InputKind.USER_INPUT
            else tensors[str(name)]
            if kind in own
            else self._constants[str(name)]
            for kind, name in self._inputs
        ]

    def names(self) -> dict[Node, str]:
        """The names of the parameters and buffers that the graph takes, by their nodes."""
        nodes = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        own = (InputKind.PARAMETER, InputKind.BUFFER)
        return {node: str(name) for node, (kind, name) in zip(nodes, self._inputs, strict=True) if kind in own}


class Watcher(Interpreter):
    """Runs a `Program` with a model's tensors."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.graph)
        self.extra_traceback = False  # an error's message is ours
        self.program = program

    @torch.no_grad()
    def watch(self, model: nn.Module, inputs: Tensor) -> None:
        """Run it with a model on inputs; subclasses override `run_node` to see what happens."""
        self.run(*self.program.arguments(model, inputs))


def observe(
    program: Program, model: nn.Module, inputs: Tensor, look: Callable[[Node, Tensor], T | None]
) -> dict[Node, T]:
    """What `look` sees of each node and its result when a model computes, without the nodes of which it sees None."""
    observer = _Observer(program, look)
    observer.watch(model, inputs)
    return observer.found


class _Observer(Watcher, Generic[T]):
    def __init__(self, program: Program, look: Callable[[Node, Tensor], T | None]) -> None:
        super().__init__(program)
        self._look = look
        self.found: dict[Node, T] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if (seen := self._look(n, result)) is not None:
            self.found[n] = seen
        return result


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model, those that it has twice by both names."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def operator_of(node: Node) -> str:
    """The name of the operator of a node, such as ``conv2d``, whether in place or not; empty if it is none."""
    _, dot, name = str(node.target).partition("aten.")
    return name.partition(".")[0].removesuffix("_") if dot else ""


def layer_of(node: Node) -> str:
    """The name of the module in which a node's operator is called, such as ``layers.0``; that of the model is empty."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""
