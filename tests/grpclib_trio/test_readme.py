# SPDX-License-Identifier: Apache-2.0
"""The example in the package's README runs unchanged, and an independent client gets its answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from google.protobuf.wrappers_pb2 import StringValue

import kedastral.grpclib_trio

PACKAGE = Path(kedastral.grpclib_trio.__file__).parent
PATIENCE = 30.0


@contextmanager
def keep_port() -> Iterator[int]:
    """A reserved port: it is bound by a socket that never listens, so that the program can listen on it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def test_the_example_answers_grpcio_and_ends_at_sigterm(tmp_path: Path) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", (PACKAGE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    program = tmp_path / "greeter.py"
    program.write_text(example)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parents[1])}
    command = [sys.executable, str(program)]
    with keep_port() as port, subprocess.Popen([*command, str(port)], env=environment) as server:
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                greet = channel.unary_unary(
                    "/demo.Greeter/Greet",
                    request_serializer=StringValue.SerializeToString,
                    response_deserializer=StringValue.FromString,
                )
                answer = greet(StringValue(value="Trio"), wait_for_ready=True, timeout=PATIENCE)
                assert answer.value == "Hello, Trio"
                server.send_signal(signal.SIGTERM)
                assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
