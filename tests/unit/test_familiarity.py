"""Familiarity: what a byte means, that machines agree on it, and that strangers' parameters are checked."""

from __future__ import annotations

import base64
import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from provider_images.familiarity.__main__ import main
from provider_images.familiarity.chart import chart
from provider_images.familiarity.fit import auroc, fit
from provider_images.mnist.letters import LETTERS, NOISES, draw_letter, make_noise, print_letter
from provider_images.mnist.train import drawn_digits
from provider_images.runtime.familiarity import Familiarity, features, grey
from provider_images.runtime.familiarity_spec import MAX_BYTES, check_familiarity
from provider_images.runtime.pictures import scale
from provider_images.runtime.spec import InputSpec, SpecError

pytestmark = pytest.mark.unit

INPUT = {"height": 28, "width": 28, "channels": 1, "color": "gray", "fit": "digit", "box": 20, "range": [0, 1]}
SPEC = InputSpec.from_manifest(INPUT)
Pictures = NDArray[np.float32]


def drawn(count: int, seed: int) -> Pictures:
    return scale(drawn_digits(count, seed)[0][..., None].astype(np.float32), SPEC)


@pytest.fixture(scope="module")
def held_out() -> Pictures:
    return drawn(300, 77_000)


@pytest.fixture(scope="module")
def declared(held_out: Pictures) -> dict[str, Any]:
    return fit(drawn(240, 55_000), held_out, SPEC, seed=1)


@pytest.fixture(scope="module")
def measure(declared: dict[str, Any]) -> Familiarity:
    return Familiarity.from_manifest(declared)


@pytest.fixture(scope="module")
def unseen() -> Pictures:
    return drawn(100, 99_000)


# ---------------------------------------------------------------------------------------------------------------
# What a byte means
# ---------------------------------------------------------------------------------------------------------------


def test_given_the_pictures_held_out_when_they_are_scored_then_every_byte_is_as_frequent(
    measure: Familiarity, held_out: Pictures
) -> None:
    scores = np.array(measure.score(held_out))
    assert (scores.min(), scores.max()) == (1, 255)
    for byte in (3, 26, 64, 128, 204, 252):
        assert np.mean(scores <= byte) == pytest.approx(byte / 255, abs=2 / len(held_out))


def test_given_new_pictures_when_they_are_scored_then_a_byte_is_the_share_of_less_familiar_ones(
    measure: Familiarity, held_out: Pictures, unseen: Pictures
) -> None:
    usual = measure.unfamiliarity(held_out)
    for score, found in zip(measure.score(unseen), measure.unfamiliarity(unseen), strict=True):
        # Thresholds lie between two pictures.
        assert abs(score - max(1, math.ceil(255 * np.mean(usual > found)))) <= 1


def test_given_the_parameters_when_a_picture_is_scored_then_its_distance_is_what_the_document_says(
    declared: dict[str, Any], measure: Familiarity, unseen: Pictures
) -> None:
    count, rank = declared["components"], declared["rank"]
    means = np.frombuffer(base64.b64decode(declared["means"]), np.uint8).reshape(count, -1) * declared["mean_scale"]
    axes = np.frombuffer(base64.b64decode(declared["axes"]), np.int8).reshape(count, rank, -1)
    means[:, -24:] *= declared["texture_weight"]
    described = features(unseen[0, :, :, 0].astype(np.float64), declared["cells"], declared["bins"], 1.0)
    described[-24:] *= declared["texture_weight"]
    total = 0.0
    for i in range(count):
        apart = described - means[i]
        along = axes[i] @ apart * declared["axes_scales"][i]
        total += math.exp(declared["offsets"][i] - declared["scales"][i] * (apart @ apart - along @ along))
    assert measure.unfamiliarity(unseen[:1])[0] == pytest.approx(-math.log(total), abs=1e-9)


def test_given_an_edge_when_it_is_described_then_only_its_cell_and_direction_have_any() -> None:
    page = np.zeros((40, 40))
    page[:, 20:] = 1  # dark on the left: the grey level rises to the right
    cells = features(page, 5, 4, 1.0)[:100].reshape(4, 5, 5)  # direction, row, column
    assert (cells[0, :, 2] > 0.1).all()
    cells[0, :, 1:4] = cells[1, :, 1:4] = cells[3, :, 1:4] = 0  # the page's own border is an edge of its white half
    assert cells[:, 1:4, :4].max() < 0.02


def test_given_the_pictures_fitted_to_when_distances_are_taken_then_each_component_has_the_same_measure(
    declared: dict[str, Any], measure: Familiarity
) -> None:
    distances = measure.distances(drawn(240, 55_000))
    nearest = distances.argmin(axis=1)
    medians = [np.median(distances[nearest == number, number]) for number in np.unique(nearest)]
    assert len(medians) == declared["components"]
    assert np.median(medians) == pytest.approx(0, abs=0.1)
    assert np.ptp(medians) < 2


def test_given_noise_mixed_in_when_there_is_more_of_it_then_digits_are_less_familiar(
    measure: Familiarity, unseen: Pictures
) -> None:
    noise = np.random.default_rng(0).random(unseen.shape, np.float32)
    means = [np.mean(measure.score((1 - part) * unseen + part * noise)) for part in (0.0, 0.02, 0.05, 0.1, 0.3)]
    assert means[0] > 90
    assert all(before > after for before, after in itertools.pairwise(means) if before > 1.5)
    assert means[-1] == 1


def test_given_pages_without_anything_when_they_are_scored_then_they_are_as_strange_as_can_be(
    measure: Familiarity,
) -> None:
    pages = np.stack([np.full((28, 28, 1), level, np.float32) for level in (0, 0.5, 1)])
    assert measure.score(pages) == [1, 1, 1]


def test_given_as_many_as_it_takes_when_scored_alone_or_together_then_the_answer_is_the_same(
    measure: Familiarity, unseen: Pictures
) -> None:
    together = measure.unfamiliarity(unseen[:16])
    assert [measure.unfamiliarity([picture])[0] for picture in unseen[:16]] == list(together)
    assert measure.unfamiliarity(unseen[15::-1]).tolist() == together.tolist()[::-1]


def test_given_two_machines_rounding_when_they_score_then_no_byte_moves_by_more_than_one(
    measure: Familiarity, unseen: Pictures
) -> None:
    scores = np.array(measure.score(unseen))
    rng = np.random.default_rng(1)
    for size in (1e-7, 1e-6, 1e-5):
        rounded = unseen + rng.uniform(-size, size, unseen.shape).astype(np.float32)
        assert np.abs(np.array(measure.score(rounded)) - scores).max() <= 1


def test_given_the_same_seed_when_it_is_fitted_again_then_the_manifest_is_the_same(
    declared: dict[str, Any], held_out: Pictures
) -> None:
    assert fit(drawn(240, 55_000), held_out, SPEC, seed=1) == declared
    assert fit(drawn(240, 55_000), held_out, SPEC, seed=2) != declared


# ---------------------------------------------------------------------------------------------------------------
# Any model's pictures
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"mode": "caffe", "order": "bgr"}, {"mode": "torch"}, {"mode": "tf"}, {"range": [-3, 5]}],
    ids=["caffe", "torch", "tf", "range"],
)
def test_given_any_scale_when_the_model_is_fed_then_the_same_pictures_get_the_same_bytes(
    changes: dict[str, Any],
) -> None:
    declared = {**INPUT, "channels": 3, "color": "rgb", "fit": "stretch", "range": [0, 255], **changes}
    if "mode" in changes:
        del declared["range"]
    spec = InputSpec.from_manifest(declared)
    plain = InputSpec.from_manifest({**INPUT, "channels": 3, "color": "rgb", "fit": "stretch"})
    pixels = np.random.default_rng(3).integers(0, 256, (320, 28, 28, 3)).astype(np.float32)
    there, here = (fit(scale(pixels[:40], one), scale(pixels[40:], one), one, seed=1) for one in (spec, plain))
    assert Familiarity.from_manifest(there, channels=3).score(scale(pixels, spec)) == pytest.approx(
        Familiarity.from_manifest(here, channels=3).score(scale(pixels, plain)), abs=1
    )


def test_given_a_large_picture_when_it_is_shrunk_then_each_pixel_is_the_mean_of_its_part() -> None:
    picture = np.random.default_rng(4).random((96, 144, 1)).astype(np.float32)
    parts = picture.astype(np.float64).reshape(48, 2, 48, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(grey(picture, (0.0,), (1.0,), 48), parts)
    # A side that does not divide shares pixels out, and keeps what is even.
    np.testing.assert_allclose(grey(np.full((50, 70, 1), 0.25, np.float32), (0.0,), (1.0,), 48), 0.25)


def test_given_too_few_pictures_when_it_is_fitted_then_it_says_how_many_are_needed(unseen: Pictures) -> None:
    with pytest.raises(ValueError, match=r"255 held out .* not 100 and 100"):
        fit(unseen, unseen, SPEC, seed=1)


def test_given_one_picture_many_times_when_it_is_fitted_then_the_manifest_still_holds(unseen: Pictures) -> None:
    same = np.repeat(unseen[:1], 300, axis=0)
    measure = Familiarity.from_manifest(fit(same[:20], same, SPEC, seed=1))
    assert measure.score(same[:1]) > measure.score(unseen[1:2])


# ---------------------------------------------------------------------------------------------------------------
# Parameters of strangers
# ---------------------------------------------------------------------------------------------------------------


def long_axes(count: int) -> str:
    return base64.b64encode(bytes([127]) * count).decode()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "magic/1"}, "method"),
        ({"side": 4}, "side"),
        ({"side": 28.0}, "side"),
        ({"side": True}, "side"),
        ({"cells": 99}, "cells"),
        ({"bins": 0}, "bins"),
        ({"rank": 17}, "rank"),
        ({"components": 0}, "components"),
        ({"components": 64, "cells": 8, "bins": 16}, "components"),
        ({"texture_weight": float("nan")}, "texture_weight"),
        ({"texture_weight": "8"}, "texture_weight"),
        ({"mean_scale": float("inf")}, "mean_scale"),
        ({"mean_scale": 1.0}, "mean_scale"),
        ({"means": "AAAA"}, "means"),
        ({"means": None}, "means"),
        ({"axes": 7}, "axes"),
        ({"scales": [1.0]}, "scales"),
        ({"offsets": "none"}, "offsets"),
        ({"axes_scales": []}, "axes_scales"),
        ({"thresholds": [0.0] * 254}, r"thresholds\[1\]"),
        ({"thresholds": [1.0] * 3}, "thresholds"),
        ({"thresholds": [*range(253), float("nan")]}, r"thresholds\[253\]"),
        ({"black": [], "white": []}, "black"),
        ({"black": [0.0, 0.0]}, "black"),
        ({"white": [0.0]}, "white"),
        ({"training": "long"}, "training"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_given_a_malformed_field_when_a_manifest_is_read_then_the_field_is_named(
    declared: dict[str, Any], changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(SpecError, match=rf"^familiarity\.{field}: "):
        check_familiarity({**declared, **changes})


def test_given_a_missing_field_when_a_manifest_is_read_then_it_is_named(declared: dict[str, Any]) -> None:
    for field in declared:
        with pytest.raises(SpecError, match=rf"^familiarity\.{field}: missing"):
            check_familiarity({key: value for key, value in declared.items() if key != field})


@pytest.mark.parametrize("value", [None, [], "familiarity", 5])
def test_given_no_object_when_a_manifest_is_read_then_it_is_refused(value: object) -> None:
    with pytest.raises(SpecError, match=r"^familiarity: an object"):
        check_familiarity(value)


@pytest.mark.parametrize(
    ("place", "value"), [("scales", math.inf), ("offsets", math.nan), ("scales", 0), ("scales", 1e9)]
)
def test_given_a_number_out_of_bounds_when_a_manifest_is_read_then_its_place_is_named(
    declared: dict[str, Any], place: str, value: float
) -> None:
    changed = copy.deepcopy(declared)
    changed[place][3] = value
    with pytest.raises(SpecError, match=rf"^familiarity\.{place}\[3\]: "):
        check_familiarity(changed)


def test_given_bytes_that_are_not_base64_when_a_manifest_is_read_then_the_field_is_named(
    declared: dict[str, Any],
) -> None:
    means = declared["means"]
    another_length = means[:-1] + ("A" if means.endswith("=") else "=")
    for wrong in ("!" + means[1:], means[:-4] + "AA=A", "é" * len(means), another_length):
        with pytest.raises(SpecError, match=r"^familiarity\.means: "):
            check_familiarity({**declared, "means": wrong})


def test_given_an_axis_that_would_enlarge_rounding_when_a_manifest_is_read_then_it_is_refused(
    declared: dict[str, Any],
) -> None:
    size = len(base64.b64decode(declared["axes"]))
    with pytest.raises(SpecError, match=r"^familiarity\.axes: axis 0 is longer than 1"):
        check_familiarity({**declared, "axes": long_axes(size)})


def test_given_another_count_of_channels_than_the_models_when_a_manifest_is_read_then_it_is_refused(
    declared: dict[str, Any],
) -> None:
    check_familiarity(declared, channels=1)
    with pytest.raises(SpecError, match=r"^familiarity\.black: a list of 3 numbers"):
        check_familiarity(declared, channels=3)


def test_what_may_be_declared_stays_under_two_hundred_kilobytes() -> None:
    assert 4 * MAX_BYTES / 3 <= 200_000


# ---------------------------------------------------------------------------------------------------------------
# Figures and the command
# ---------------------------------------------------------------------------------------------------------------


def test_given_scores_when_auroc_is_taken_then_it_is_the_share_of_pairs_in_order() -> None:
    assert auroc([3, 4], [1, 2]) == 1
    assert auroc([1, 2], [3, 4]) == 0
    assert auroc([5, 5], [5]) == 0.5
    # 2 > 1, 2 = 2, 2 < 3; 4 is above all three.
    assert auroc([2, 4], [1, 2, 3]) == pytest.approx((1.5 + 3) / 6)


def test_given_a_seed_when_letters_and_noise_are_made_then_they_are_the_same_again_and_differ_from_each_other() -> None:
    made = [
        *(draw_letter(letter, 1) for letter in LETTERS),
        *(print_letter(letter, 1) for letter in LETTERS),
        *(make_noise(kind, 1) for kind in NOISES),
    ]
    again = [draw_letter("A", 1), print_letter("A", 1), make_noise("white", 1)]
    assert len({picture.tobytes() for picture in made}) == len(made) == 60
    assert [made[0].tobytes(), made[26].tobytes(), made[52].tobytes()] == [picture.tobytes() for picture in again]


def test_given_groups_when_they_are_charted_then_the_highest_bars_reach_the_top() -> None:
    drawing = chart({"high": [255, 255, 1], "none": []})
    assert drawing.count("<rect") == 3  # the page, and two bars
    assert 'height="56.0"' in drawing
    assert 'height="28.0"' in drawing


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tenth of what a publisher would have: digits to train on, held out, and noise."""
    folder = tmp_path_factory.mktemp("pictures")
    digits = drawn_digits(640, 31_000)[0]
    for i, digit in enumerate(digits):
        target = folder / ("training" if i < 120 else "held-out") / str(i % 10)
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digit).save(target / f"{i}.png")
    (folder / "noise").mkdir()
    for i in range(20):
        make_noise("white", i).save(folder / "noise" / f"{i}.png")
    return folder


def test_given_folders_when_the_command_is_run_then_the_manifest_has_a_familiarity_with_its_figures(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"name": "mine", "input": INPUT}))
    places = [f"--{name}={folders / name}" for name in ("training", "held-out")]
    main([f"--manifest={path}", *places, f"--others={folders / 'noise'}"])
    document = json.loads(path.read_text())
    check_familiarity(document["familiarity"], channels=1)
    training = document["familiarity"]["training"]
    assert document["name"] == "mine"
    assert json.loads(capsys.readouterr().out) == training
    assert training["pictures"] == {"training": 120, "calibration": 260, "measured": 260}
    assert training["auroc"]["noise"] > 0.95
    assert str(folders) not in path.read_text()


@pytest.mark.parametrize(
    ("training", "document", "reason"),
    [
        ("noise", {"input": {**INPUT, "fit": "odd"}}, "fit: one of"),
        ("absent", {"input": INPUT}, "absent: no pictures"),
        ("training", {}, "the manifest has no 'input'"),
        ("training", {"input": {**INPUT, "fit": "whole"}}, "input.fit"),
    ],
)
def test_given_what_cannot_be_used_when_the_command_is_run_then_it_says_what_and_leaves_the_manifest(
    folders: Path, tmp_path: Path, training: str, document: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SystemExit, match=reason):
        main([f"--manifest={path}", f"--training={folders / training}", f"--held-out={folders / 'held-out'}"])
    assert json.loads(path.read_text()) == document
