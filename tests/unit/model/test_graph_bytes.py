"""What a graph's bytes refer to is found wherever it stands, and any bytes get an answer."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from model.graph_bytes import STANDARD_DOMAINS, GraphRefused, check_graph
from stream.settings import PRETRAINED_BUNDLE

GRAPHS = sorted(PRETRAINED_BUNDLE.glob("*.onnx"))


def external(name: str = "weights") -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def model_of(*nodes: onnx.NodeProto, initializer: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])
    return helper.make_model(helper.make_graph(list(nodes), "graph", [value], [value], initializer=list(initializer)))


def in_a_branch(tensor: TensorProto) -> onnx.NodeProto:
    branch = model_of(initializer=(tensor,)).graph
    return helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)


def sparse(tensor: TensorProto) -> onnx.ModelProto:
    made = model_of()
    made.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, dims=[4]))
    return made


@pytest.mark.parametrize("path", GRAPHS, ids=[path.name for path in GRAPHS])
def test_graphs_of_ours_are_taken(path: Path) -> None:
    check_graph(path.read_bytes())


@pytest.mark.parametrize(
    "made",
    [
        model_of(initializer=(external(),)),
        model_of(helper.make_node("Constant", [], ["y"], value=external())),
        model_of(in_a_branch(external())),
        model_of(helper.make_node("If", ["x"], ["y"], then_branch=model_of(in_a_branch(external())).graph)),
        sparse(external()),
    ],
    ids=["initializer", "attribute", "branch", "branch in a branch", "sparse"],
)
def test_external_data_is_found_wherever_it_is(made: onnx.ModelProto) -> None:
    with pytest.raises(GraphRefused, match="external data"):
        check_graph(made.SerializeToString())


def test_either_mark_of_external_data_is_enough() -> None:
    marked, named = external(), external()
    del marked.external_data[:]
    named.ClearField("data_location")
    for tensor in (marked, named):
        with pytest.raises(GraphRefused, match="external data"):
            check_graph(model_of(initializer=(tensor,)).SerializeToString())


def test_domains_of_others_are_found_in_operators_and_imports() -> None:
    node = helper.make_node("Identity", ["x"], ["y"], domain="com.microsoft")
    imported = model_of()
    imported.opset_import.append(helper.make_opsetid("ai.onnx.contrib", 1))
    for made in (model_of(node), imported, model_of(helper.make_node("If", ["x"], ["y"], b=model_of(node).graph))):
        with pytest.raises(GraphRefused, match="which are none of ONNX's own"):
            check_graph(made.SerializeToString())


def test_functions_are_refused() -> None:
    made = model_of()
    made.functions.append(onnx.FunctionProto(name="f", domain=""))
    with pytest.raises(GraphRefused, match="holds a function"):
        check_graph(made.SerializeToString())


def test_graphs_in_graphs_are_read_to_a_depth() -> None:
    graph = model_of().graph
    for _ in range(12):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], b=graph)], "graph", [], [])
    with pytest.raises(GraphRefused, match="nested more than"):
        check_graph(helper.make_model(graph).SerializeToString())


def test_very_many_fields_take_seconds_at_most() -> None:
    started = time.process_time()
    with pytest.raises(GraphRefused, match="more than 500,000 fields"):
        check_graph(b"\x08\x01" * 8_000_000)
    assert time.process_time() - started < 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no ONNX graph"),
        (b"\x08\x01", "no ONNX graph"),
        (b"\x00", "impossible number"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends within a field"),
        (b"\x3a\x05abc", "ends within a field"),
        (b"\xff" * 11, "does not end"),
        (b"\x08", "does not end"),
        (b"\x0b", "of type 3"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "impossible number"),
    ],
)
def test_what_is_no_message_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(GraphRefused, match=message):
        check_graph(content)


@given(st.binary(max_size=100))
def test_any_bytes_get_an_answer(content: bytes) -> None:
    with contextlib.suppress(GraphRefused):
        check_graph(content)


@given(st.data())
def test_what_onnx_reads_without_external_data_is_read_alike(data: st.DataObject) -> None:
    """After a change of some bytes: wherever `onnx` finds external data in the graph's tensors, so does the check."""
    content = bytearray(model_of(initializer=(external(),)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = onnx.ModelProto.FromString(bytes(content))
    except Exception:
        return
    outside = any(tensor.external_data or tensor.data_location for tensor in read.graph.initializer)
    try:
        check_graph(bytes(content))
    except GraphRefused:
        return
    assert not outside
    assert {node.domain.encode() for node in read.graph.node} <= STANDARD_DOMAINS
