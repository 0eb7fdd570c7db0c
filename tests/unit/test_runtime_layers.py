"""The numpy layers against their definitions, written out without any speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from provider_images.mnist import forward
from provider_images.mnist.draw import draw_digit
from provider_images.runtime.engines import ModelError, NumpyEngine
from provider_images.runtime.layers import convolve, fold, pool_by_channel, relu, softmax
from provider_images.runtime.spec import InputSpec, ModelSpec
from provider_images.runtime.weights import save_weights

pytestmark = pytest.mark.unit

RNG = np.random.default_rng(5)


def numbers(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(size=shape).astype(np.float32)


def convolve_slowly(picture: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's "same": as many outputs as strides fit, what is missing shared out, the odd one behind."""
    (height, width, _), (size, _, _, channels) = picture.shape, kernel.shape
    rows, columns = -(-height // stride), -(-width // stride)
    top = max(0, (rows - 1) * stride + size - height) // 2
    left = max(0, (columns - 1) * stride + size - width) // 2
    answer = np.zeros((rows, columns, channels))
    for row, column, i, j in np.ndindex(rows, columns, size, size):
        y, x = row * stride + i - top, column * stride + j - left
        if 0 <= y < height and 0 <= x < width:
            answer[row, column] += picture[y, x].astype(np.float64) @ kernel[i, j]
    return answer


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2), (3, 3), (2, 2)])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (4, 11)])
def test_a_convolution_is_what_its_definition_says(size: int, stride: int, height: int, width: int) -> None:
    picture, kernel, bias = numbers(height, width, 3), numbers(size, size, 3, 4), numbers(4)
    answer = convolve(picture, kernel, bias, stride=stride)
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, convolve_slowly(picture, kernel, stride) + bias, atol=1e-5)


def test_a_folded_normalisation_is_the_normalisation() -> None:
    picture, kernel = numbers(6, 6, 2), numbers(3, 3, 2, 5)
    gamma, beta, mean, variance = numbers(5), numbers(5), numbers(5), np.abs(numbers(5))
    plain = convolve_slowly(picture, kernel, 1)
    expected = gamma * (plain - mean) / np.sqrt(variance.astype(np.float64) + 1e-3) + beta
    folded = convolve(picture, *fold(kernel, (gamma, beta, mean, variance)))
    np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-4)


def test_pooling_weighs_each_channel_alone() -> None:
    picture, kernel = numbers(3, 4, 2), numbers(3, 4, 2)
    expected = [float((picture[..., c] * kernel[..., c]).sum()) for c in range(2)]
    np.testing.assert_allclose(pool_by_channel(picture, kernel), expected, rtol=1e-5)


def test_softmax_is_a_distribution_however_large_its_values() -> None:
    answer = softmax(np.float32([1000, 1000, 0, -1000]))
    np.testing.assert_array_equal(answer, np.float32([0.5, 0.5, 0, 0]))
    assert relu(np.float32([-1, 2])).tolist() == [0, 2]


# ---------------------------------------------------------------------------------------------------------------
# The engine
# ---------------------------------------------------------------------------------------------------------------


def a_spec(family: str = "mnist", *, classes: int = 10, height: int = 28) -> ModelSpec:
    return ModelSpec("keras", family, "", classes, 3, InputSpec(height, 28, 1, "gray", "digit", 20, (0.0, 1.0)))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.npz"
    path.write_bytes(save_weights([np.abs(numbers(*shape)) for shape in forward.shapes()]))
    return path


def test_an_answer_does_not_depend_on_its_company(weights: Path) -> None:
    model = NumpyEngine().load(a_spec(), weights)
    digits = [np.asarray(draw_digit(digit, 1), np.float32)[..., None] / 255 for digit in range(10)]
    together = model.classify(np.stack(digits))
    assert together.shape == (10, 10)
    for digit, row in zip(digits, together, strict=True):
        np.testing.assert_array_equal(model.classify(digit[None])[0], row)


def test_the_engine_says_what_it_is() -> None:
    assert NumpyEngine().version == f"sibyl-numpy 1, numpy {np.__version__}"


@pytest.mark.parametrize(
    ("spec", "said"), [(a_spec(classes=9), "labels"), (a_spec(height=32), "input"), (a_spec(), "weights")]
)
def test_a_model_that_does_not_fit_is_refused(weights: Path, spec: ModelSpec, said: str) -> None:
    if said == "weights":
        weights.write_bytes(b"")
    with pytest.raises(ModelError, match=said):
        NumpyEngine().load(spec, weights)


def test_a_family_without_a_numpy_form_says_that_it_needs_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider_images.runtime.engines.FAMILIES", {"vast": "provider_images.runtime"})
    with pytest.raises(ModelError, match="needs TensorFlow"):
        NumpyEngine().load(a_spec("vast"), Path())
