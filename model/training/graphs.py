"""ONNX graphs as files: a module of PyTorch exported, without the exporter's notes on the source."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

OPSET = 20


def write_graph(
    module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str], path: Path
) -> None:
    """Export a module whose arguments all have the batch as their first dimension."""
    save(exported(module, example, inputs, outputs), path)


def exported(module: nn.Module, example: tuple[Tensor, ...], inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """The graph of a module whose arguments all have the batch as their first dimension."""
    with warnings.catch_warnings(), torch.no_grad():
        # Warnings of the exporter about its own future and about torchvision, which this project does not use.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            example,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple({0: torch.export.Dim("rows", min=2)} for _ in example),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    assert isinstance(proto, onnx.ModelProto)
    return proto


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it."""
    _strip(proto)
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _strip(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes on the source: file paths and stack traces differ between machines."""
    proto.producer_version = ""
    proto.doc_string = ""
    del proto.metadata_props[:]
    graph = proto.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
