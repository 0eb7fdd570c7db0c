"""Whether two results for one picture may both be honest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import provider_images.mnist
from oracle.domain import FailureReason, ItemResult, LabelScore, ModelManifest
from oracle.manifests import read_manifest
from oracle.pipeline.comparison import TIE, agree

pytestmark = pytest.mark.unit

TOLERANT = read_manifest((Path(provider_images.mnist.__file__).parent / "manifest.json").read_bytes())
EXACT = dataclasses.replace(TOLERANT, document={**TOLERANT.document, "comparison": {"class": "exact"}})
EPSILON = TOLERANT.document["comparison"]["epsilon"]


def item(*labels: tuple[int, float], failure: FailureReason = FailureReason.NONE) -> ItemResult:
    return ItemResult(b"\1" * 32, tuple(LabelScore(i, str(i), p) for i, p in labels), failure)


def top(probabilities: np.ndarray, count: int = 3) -> ItemResult:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return item(*((int(i), float(probabilities[i])) for i in order))


@pytest.mark.parametrize("manifest", [TOLERANT, EXACT])
def test_a_result_agrees_with_itself_and_not_with_another_label(manifest: ModelManifest) -> None:
    mine = item((7, 0.9), (1, 0.06), (2, 0.02))
    assert agree(manifest, mine, mine)
    assert not agree(manifest, mine, item((1, 0.9), (7, 0.06), (2, 0.02)))
    assert not agree(manifest, mine, item())


def test_an_exact_model_bears_no_difference() -> None:
    assert not agree(EXACT, item((7, 0.9), (1, 0.06)), item((7, 0.9000001), (1, 0.06)))


def test_a_tolerant_one_bears_its_epsilon_and_no_more() -> None:
    mine = item((7, 0.9), (1, 0.06), (2, 0.02))
    assert agree(TOLERANT, mine, item((7, 0.9 - 0.9 * EPSILON), (1, 0.06), (2, 0.02)))
    assert not agree(TOLERANT, mine, item((7, 0.9 - 1.1 * EPSILON), (1, 0.06), (2, 0.02)))


def test_a_class_that_only_one_names_must_be_small() -> None:
    mine = item((7, 0.9), (1, 0.06), (2, 0.02))
    assert agree(TOLERANT, mine, item((7, 0.9), (1, 0.06), (3, 0.02)))
    assert not agree(TOLERANT, mine, item((7, 0.9), (3, 0.06), (2, 0.02)))


def test_a_failure_agrees_with_the_same_failure_alone() -> None:
    unreadable, unsupported = (
        item(failure=reason) for reason in (FailureReason.IMAGE_UNREADABLE, FailureReason.IMAGE_UNSUPPORTED)
    )
    assert agree(TOLERANT, unreadable, unreadable)
    assert not agree(TOLERANT, unreadable, unsupported)
    assert not agree(TOLERANT, unreadable, item((7, 0.9), (1, 0.06), (2, 0.02)))


@settings(max_examples=300)
@given(st.lists(st.floats(0, 1), min_size=10, max_size=10), st.integers(0, 2**32 - 1))
def test_two_honest_machines_always_agree(weights: list[float], seed: int) -> None:
    exact = np.array(weights) + 1e-9
    exact /= exact.sum()
    noise = np.random.default_rng(seed).uniform(-7e-6, 7e-6, (2, 10))
    left, right = (np.clip(exact + error, 0, 1) for error in noise)
    assert agree(TOLERANT, top(left), top(right))


@settings(max_examples=300)
@given(st.lists(st.floats(0, 1), min_size=10, max_size=10), st.integers(0, 9), st.floats(0, 1))
def test_a_wrong_label_never_passes(weights: list[float], lie: int, share: float) -> None:
    exact = np.array(weights) + 1e-9
    exact /= exact.sum()
    truth = int(np.argmax(exact))
    third = np.sort(exact)[-3]
    if exact[truth] - max(exact[lie], third) <= 2 * TIE:
        return  # as good as a tie, of two classes or of all three that are named
    told = exact.copy()
    told[lie] = exact[truth] + share * (1 - exact[truth])
    told[truth] = min(told[truth], told[lie] - 1e-9)
    assert not agree(TOLERANT, top(exact), top(told))
