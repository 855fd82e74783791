from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import pytest

from events.types import KINDS
from model.architectures import ARCHITECTURES, DEFAULT, LATER_FIELDS, Architecture, Family
from model.networks.risk_model import RiskModel
from model.networks.steps import state_widths
from stream.settings import PRETRAINED_BUNDLE


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda found: found.family)
def test_an_architecture_goes_through_the_manifest(architecture: Architecture) -> None:
    written = json.loads(json.dumps(architecture.as_manifest()))
    assert written["family"] == architecture.family
    assert Architecture.from_manifest(written) == architecture


def test_the_command_offers_every_family() -> None:
    assert get_args(Family) == tuple(ARCHITECTURES)
    assert ARCHITECTURES[DEFAULT] == Architecture()


def test_the_first_manifests_are_of_the_default() -> None:
    manifest = json.loads((PRETRAINED_BUNDLE / "manifest.json").read_bytes())
    assert Architecture.from_manifest(manifest["architecture"]) == ARCHITECTURES[DEFAULT]


def test_what_came_later_stands_in_a_manifest_only_where_it_is_used() -> None:
    assert not LATER_FIELDS & Architecture().as_manifest().keys()
    wide = Architecture(
        wide=True,
        readout_dropout=0.2,
        boosted=True,
        tallies=(("due/30d",), (), (), ()),
        trees=(2, 3, 1),
    )
    written = json.loads(json.dumps(wide.as_manifest()))
    assert written.keys() >= LATER_FIELDS
    assert Architecture.from_manifest(written) == wide


def test_what_this_version_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"no encoder is named \['abacus'\]"):
        Architecture(encoders=("abacus", "ignored", "ignored", "ignored"))
    with pytest.raises(ValueError, match=r"field that is not known .*beads"):
        Architecture.from_manifest({"family": DEFAULT, "beads": 7})


@pytest.mark.parametrize("name", ["profile", "gru-attention"])
def test_an_encoder_that_a_kind_cannot_have_is_refused(make_model: Callable[..., RiskModel], name: str) -> None:
    with pytest.raises(ValueError, match="profiles have no sequence"):
        make_model(architecture=Architecture(encoders=(name,) * 4))


@pytest.mark.parametrize(
    ("family", "read"),
    [
        ("lstm-attention", KINDS),
        ("gru-attention", KINDS),
        ("causal-transformer", KINDS),
        ("time-decay", KINDS),
        ("three-branch", ("repayments", "transactions", "activity")),
        ("hybrid", ("repayments", "profiles")),
        ("repayment-lstm", ("repayments",)),
    ],
)
def test_a_family_keeps_state_of_the_kinds_it_reads(
    make_model: Callable[..., RiskModel], family: str, read: tuple[str, ...]
) -> None:
    widths = state_widths(make_model(architecture=ARCHITECTURES[family]))
    assert tuple(kind for kind in KINDS if widths[kind]) == read


@pytest.mark.parametrize("family", ["lstm-attention", "repayment-lstm", "causal-transformer"])
def test_weight_decay_spares_the_attention_and_nothing_else(make_model: Callable[..., RiskModel], family: str) -> None:
    model = make_model(architecture=ARCHITECTURES[family])
    decayed, spared = model.parameter_groups(0.01)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sorted(names[id(parameter)] for group in (decayed, spared) for parameter in group["params"]) == sorted(
        names.values()
    )
    expected = {name for name in names.values() if ".attention." in name or ".query." in name}
    assert {names[id(parameter)] for parameter in spared["params"]} == expected


def test_names_of_families_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import model.architectures"
    subprocess.run([sys.executable, "-c", code], check=True)
