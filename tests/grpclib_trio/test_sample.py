# SPDX-License-Identifier: Apache-2.0
"""The generated code of the sample service is up to date; ``python -m tests.grpclib_trio.test_sample`` writes it."""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

FOLDER = Path(__file__).parent / "_proto"
ROOT = Path(__file__).parents[2]
HEADER = "# SPDX-License-Identifier: Apache-2.0\n"


def generate(out: Path) -> list[Path]:
    """Write the modules below ``out``, as ``tests/grpclib_trio/_proto/*``."""
    inside = FOLDER.relative_to(ROOT).as_posix()
    arguments = [
        "protoc",
        f"-I{inside}={FOLDER}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpclib_python_out={out}",
        f"--plugin=protoc-gen-grpclib_python={Path(sys.executable).parent / 'protoc-gen-grpclib_python'}",
        f"{inside}/sample.proto",
    ]
    assert protoc.main(arguments) == 0
    made = sorted((out / inside).glob("sample*.py*"))
    for path in made:
        path.write_text(HEADER + path.read_text())
    return made


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    made = generate(tmp_path)
    assert [path.name for path in made] == ["sample_grpc.py", "sample_pb2.py", "sample_pb2.pyi"]
    for path in made:
        assert path.read_text() == (FOLDER / path.name).read_text()


if __name__ == "__main__":
    generate(ROOT)
