# SPDX-License-Identifier: Apache-2.0
"""grpclib's reflection works on this transport, if enabled."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpclib.const import Status
from grpclib.reflection.service import ServerReflection
from grpclib.reflection.v1.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from .conftest import StartServer
from .peers import SampleService, frame_message

METHOD = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


async def test_reflection_lists_services_and_gives_their_files(start_server: StartServer) -> None:
    client = (await start_server(*ServerReflection.extend([SampleService()]))).connect()
    stream_id = client.open(METHOD)
    answer = client.answers[stream_id]
    client.send(stream_id, frame_message(ServerReflectionRequest(list_services="")))
    await client.until(lambda: len(answer.read(ServerReflectionResponse)) == 1)
    listed = answer.read(ServerReflectionResponse)[0].list_services_response.service
    assert [s.name for s in listed] == ["sample.Sample"]
    client.send(stream_id, frame_message(ServerReflectionRequest(file_containing_symbol=listed[0].name)), end=True)
    assert (await client.finish(stream_id)).status is Status.OK
    file = answer.read(ServerReflectionResponse)[1].file_descriptor_response.file_descriptor_proto[0]
    assert FileDescriptorProto.FromString(file).service[0].name == "Sample"


async def test_the_older_name_of_reflection_works_too(start_server: StartServer) -> None:
    client = (await start_server(*ServerReflection.extend([SampleService()]))).connect()
    message = ServerReflectionRequest(list_services="")
    answer = await client.call(METHOD.replace("v1.", "v1alpha."), message)
    assert answer.status is Status.OK


async def test_reflection_is_off_unless_asked_for(start_server: StartServer) -> None:
    client = (await start_server()).connect()
    answer = await client.call(METHOD, ServerReflectionRequest(list_services=""))
    assert answer.status is Status.UNIMPLEMENTED
