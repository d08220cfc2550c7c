# SPDX-License-Identifier: Apache-2.0
"""Generates kedastral/_proto from proto/: ``python proto/generate.py [FOLDER]``; `make check` compares the result."""

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# SPDX-License-Identifier: Apache-2.0\n"


def generate(out: Path) -> None:
    """Write the generated modules below ``out``, as ``kedastral/_proto/*``; raises RuntimeError when protoc refuses."""
    arguments = [
        "protoc",
        f"-Ikedastral/_proto={ROOT / 'proto'}",  # a path of our own, so that the imports say kedastral._proto
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpclib_python_out={out}",
        f"--plugin=protoc-gen-grpclib_python={Path(sys.executable).parent / 'protoc-gen-grpclib_python'}",
        "kedastral/_proto/externalscaler.proto",
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed, see its message above")
    for path in (out / "kedastral" / "_proto").glob("externalscaler*"):
        path.write_text(HEADER + path.read_text(encoding="utf-8"), encoding="utf-8")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
