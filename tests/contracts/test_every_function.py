"""No function of the three contracts is left out of these tests."""

from pathlib import Path


def test_every_public_function_is_called_by_a_test(InferenceCoordinator, DigitReader):
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    functions = {entry["name"] for entry in InferenceCoordinator.abi + DigitReader.abi if entry["type"] == "function"}
    missing = {name for name in functions if f".{name}(" not in tests and f'"{name}"' not in tests}
    assert not missing
