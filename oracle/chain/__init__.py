"""Everything that speaks to the chain."""

import importlib
import sys

_RECURSION_LIMIT = 1_000

# web3 imports py_ecc, which raises the interpreter's recursion limit to 100,000. From then on, deeply nested JSON from
# an endpoint, a manifest or a provider would not raise RecursionError but overflow the C stack and kill the process.
importlib.import_module("py_ecc")
sys.setrecursionlimit(min(sys.getrecursionlimit(), _RECURSION_LIMIT))
