"""The networks that can be trained by name."""

from __future__ import annotations

from model.networks import Architecture as Architecture

ARCHITECTURES: dict[str, Architecture] = {"lstm-attention": Architecture()}
