"""Boosted trees as tensors: the same splits as LightGBM's, one node a number.

A threshold becomes the largest float32 that is not above it, so that a float32 goes the same way as with the original.
Fits nothing; `model.training.boosting` does, and `model.training.tree_graph` writes the operator that serving runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Trees(nn.Module):
    """The sum of `trees` trees of at most `nodes` nodes and `depth` splits one below the other.

    A node compares one input with a threshold; a leaf leads to itself and has a value.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    missing_left: Tensor
    value: Tensor

    def __init__(self, trees: int, nodes: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        shape = (trees, nodes)
        self.register_buffer("feature", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(shape))
        self.register_buffer("left", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("right", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("missing_left", torch.zeros(shape, dtype=torch.bool))
        self.register_buffer("value", torch.zeros(shape))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Trees, nodes and depth, as the constructor takes them."""
        return (len(self.feature), self.feature.shape[1], self.depth)

    def forward(self, inputs: Tensor) -> Tensor:
        """Sum of the leaves `[n, 1]` that `inputs` `[n, features]` come to; NaN is missing."""
        rows = len(inputs)
        tree = torch.arange(len(self.feature), device=inputs.device)
        node = torch.zeros((rows, len(tree)), dtype=torch.int64, device=inputs.device)
        for _ in range(self.depth):
            value = inputs.gather(1, self.feature[tree, node])
            goes_left = torch.where(
                torch.isnan(value), self.missing_left[tree, node], value <= self.threshold[tree, node]
            )
            node = torch.where(goes_left, self.left[tree, node], self.right[tree, node])
        return self.value[tree, node].sum(1, keepdim=True)

    def nodes(self) -> Iterator[tuple[int, int, bool]]:
        """Tree, node and whether it is a leaf, of every node that can be reached."""
        for tree in range(len(self.feature)):
            pending = [0]
            while pending:
                node = pending.pop(0)
                left, right = int(self.left[tree, node]), int(self.right[tree, node])
                is_leaf = left == node
                yield tree, node, is_leaf
                if not is_leaf:
                    pending += [left, right]

    @classmethod
    def of(cls, booster: Any) -> Trees:
        """The trees of a LightGBM booster without categorical splits. Its constant is part of the leaves.

        Raises `ValueError` for a split that is not of a number.
        """
        roots = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
        listed = [list(_listed(root)) for root in roots]
        depth = max((level for tree in listed for _, level in tree), default=0)
        made = cls(len(listed), max((len(tree) for tree in listed), default=1), depth)
        for number, tree in enumerate(listed):
            places = {id(node): place for place, (node, _) in enumerate(tree)}
            for place, (node, _) in enumerate(tree):
                made._set(number, place, node, places)
        return made

    @classmethod
    def mean(cls, members: Sequence[Trees]) -> Trees:
        """Trees whose sum is the mean of the sums of `members`, one after the other."""
        shapes = [member.shape for member in members]
        made = cls(sum(trees for trees, _, _ in shapes), max(n for _, n, _ in shapes), max(d for _, _, d in shapes))
        start = 0
        for member in members:
            trees, nodes, _ = member.shape
            for name, values in member.named_buffers():
                part = values / len(members) if name == "value" else values
                getattr(made, name)[start : start + trees, :nodes] = part
            start += trees
        return made

    def _set(self, tree: int, place: int, node: Mapping[str, Any], places: Mapping[int, int]) -> None:
        if "leaf_value" in node:
            self.left[tree, place] = self.right[tree, place] = place
            self.value[tree, place] = node["leaf_value"]
            return
        if node["decision_type"] != "<=":
            raise ValueError(f"a split is {node['decision_type']!r}, expected <=: give the trees numbers alone")
        threshold = float(node["threshold"])
        self.feature[tree, place] = int(node["split_feature"])
        self.threshold[tree, place] = float(not_above(threshold))
        self.left[tree, place] = places[id(node["left_child"])]
        self.right[tree, place] = places[id(node["right_child"])]
        # Without missing values in training LightGBM takes one for 0.
        missing = node["missing_type"]
        self.missing_left[tree, place] = bool(node["default_left"]) if missing == "NaN" else threshold >= 0


def _listed(root: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Nodes of a tree with the number of splits above each, the root first."""
    pending = [(root, 0)]
    while pending:
        node, level = pending.pop(0)
        yield node, level
        if "leaf_value" not in node:
            pending += [(node["left_child"], level + 1), (node["right_child"], level + 1)]


def not_above(threshold: float) -> np.float32:
    """The largest float32 that is not above a number."""
    with np.errstate(over="ignore"):
        rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > threshold else rounded


def used_features(trees: Trees) -> NDArray[np.int64]:
    """Positions of the inputs that any split looks at, ascending, int64."""
    splits = [int(trees.feature[tree, node]) for tree, node, is_leaf in trees.nodes() if not is_leaf]
    return np.unique(np.array(splits, dtype=np.int64))
