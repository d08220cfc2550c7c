# SPDX-License-Identifier: Apache-2.0
"""KEDA's side of a gRPC connection to an external scaler."""

import trio

from tests.grpclib_trio.peers import Client

SERVICE = "/externalscaler.ExternalScaler/"


def open_client(stream: trio.abc.Stream) -> Client:
    """A client whose methods are those of KEDA's contract."""
    return Client(stream, service=SERVICE)
