"""No function of the coordinator and of the examples is left out of these tests."""

from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["InferenceCoordinator", "DigitReader", "PictureName", "DigitBet", "GalleryGate"])
def test_every_public_function_is_called_by_a_test(request, name):
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    abi = request.getfixturevalue(name).abi
    functions = {entry["name"] for entry in abi if entry["type"] == "function"}
    assert functions
    assert not {function for function in functions if f".{function}(" not in tests and f'"{function}"' not in tests}
