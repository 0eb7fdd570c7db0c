"""Compile every module of a root file system with its own Python: ``compile.py ROOT FOLDER...``.

A provider's file system is read-only or in memory, so modules not compiled here would be compiled at every start. The
standard library and wheels keep the compiled form alone; our own modules keep their text as well.
"""

from __future__ import annotations

import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path

OWN = "provider_images"


def main(root: Path, *folders: str) -> None:
    """Compile the folders, in a fixed order, naming files as they will be named in the image."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            name = f"/{path.relative_to(root)}"
            own = OWN in path.parts
            target = Path(cache_from_source(str(path))) if own else path.with_suffix(".pyc")
            py_compile.compile(
                str(path),
                cfile=str(target),
                dfile=name,
                doraise=True,
                # The image never changes, and its dates say nothing.
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            if not own:
                path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
