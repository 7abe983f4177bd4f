#!/usr/bin/env python3
"""A subscriber in Python: receiver.py [ADDRESS], by default 127.0.0.1:9100. Prints each event, a line of JSON, and takes it.

The stubs are made once, from the root of the tree. With Debian's protobuf-compiler-grpc and python3-grpcio:

  mkdir -p /tmp/stubs
  protoc -I proto --python_out=/tmp/stubs --plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin --grpc_out=/tmp/stubs \
      proto/eventvirtual/v1/event.proto proto/eventvirtual/v1/receiver.proto
  PYTHONPATH=/tmp/stubs python3 client/examples/python/receiver.py &
  evctl subscribe E_PIKE_BLOCKED grpc://127.0.0.1:9100 --ttl=1h
"""

import concurrent.futures
import signal
import sys

import grpc
from google.protobuf import json_format

from eventvirtual.v1 import receiver_pb2, receiver_pb2_grpc


class Receiver(receiver_pb2_grpc.ReceiverServicer):
    def Deliver(self, request, context):
        # An answer without an error says that the event is taken, so do first what must not be lost. An event that comes
        # again, after an answer that was late or lost, has the same event_id.
        line = json_format.MessageToJson(request.event, indent=None, preserving_proto_field_name=True)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        # This event and no other is refused for ever by: context.abort(grpc.StatusCode.INVALID_ARGUMENT, "why")
        return receiver_pb2.DeliverResponse()


def main(address="127.0.0.1:9100"):
    # One thread takes the events in the order in which they come.
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    receiver_pb2_grpc.add_ReceiverServicer_to_server(Receiver(), server)
    if server.add_insecure_port(address) == 0:
        sys.exit("cannot listen on " + address)
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=5))  # what has begun is finished
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
