"""Writes the score graph of a network with trees: what is before the trees, the operator of trees, what is after.

The operator is one of ONNX's own, for classical models. Fits nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper

from events.types import KINDS
from model.networks.boosted import BoostedFusion
from model.networks.steps import AfterTrees, BeforeTrees
from model.networks.trees import Trees
from model.training.graphs import OPSET, exported, save

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
ROWS = 64


def write_boosted_score(fusion: BoostedFusion, path: Path) -> None:
    """The score graph: readout and ages to probabilities."""
    width = sum(fusion.sizes)
    inputs = len(fusion.input_names())
    intervals = fusion.weights.shape[1]
    before = exported(
        BeforeTrees(fusion).eval(),
        (torch.zeros(ROWS, width), torch.zeros(ROWS, len(KINDS))),
        ["readout", "ages"],
        ["tree_inputs", "network"],
    )
    after = exported(
        AfterTrees(fusion).eval(),
        (torch.zeros(ROWS, intervals, dtype=torch.float64), torch.zeros(ROWS, 1)),
        ["network_logits", "tree_sum"],
        ["probabilities"],
    )
    trees = tree_model(fusion.trees, inputs, before.ir_version)
    # Names within the parts may be the same; those at their edges are ours and stay.
    joined = onnx.compose.merge_models(
        onnx.compose.add_prefix(before, "before/", rename_inputs=False, rename_outputs=False),
        trees,
        io_map=[("tree_inputs", "trees_in")],
        outputs=["network", "trees_out"],
    )
    joined = onnx.compose.merge_models(
        joined,
        onnx.compose.add_prefix(after, "after/", rename_inputs=False, rename_outputs=False),
        io_map=[("network", "network_logits"), ("trees_out", "tree_sum")],
    )
    save(joined, path)


def tree_model(trees: Trees, inputs: int, ir_version: int) -> onnx.ModelProto:
    """Trees as a graph of one operator, from `trees_in` float32 `[rows, inputs]` to `trees_out` `[rows, 1]`."""
    columns: dict[str, Any] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
            "nodes_falsenodeids", "nodes_missing_value_tracks_true", "target_treeids", "target_nodeids", "target_ids",
            "target_weights",
        )
    }  # fmt: skip
    for tree, node, is_leaf in trees.nodes():
        row: dict[str, int | float | str] = {
            "nodes_treeids": tree,
            "nodes_nodeids": node,
            "nodes_featureids": 0 if is_leaf else int(trees.feature[tree, node]),
            "nodes_values": 0.0 if is_leaf else float(trees.threshold[tree, node]),
            "nodes_modes": "LEAF" if is_leaf else "BRANCH_LEQ",
            "nodes_truenodeids": 0 if is_leaf else int(trees.left[tree, node]),
            "nodes_falsenodeids": 0 if is_leaf else int(trees.right[tree, node]),
            "nodes_missing_value_tracks_true": 0 if is_leaf else int(trees.missing_left[tree, node]),
        }
        if is_leaf:
            row |= {
                "target_treeids": tree,
                "target_nodeids": node,
                "target_ids": 0,
                "target_weights": float(trees.value[tree, node]),
            }
        for name, value in row.items():
            columns[name].append(value)
    operator = helper.make_node(
        "TreeEnsembleRegressor",
        ["trees_in"],
        ["trees_out"],
        domain=ML_DOMAIN,
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        **columns,
    )
    graph = helper.make_graph(
        [operator],
        "trees",
        [helper.make_tensor_value_info("trees_in", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("trees_out", TensorProto.FLOAT, ["rows", 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
