#!/usr/bin/env python3
"""A client in Python: subscribes, raises events one by one or in batches, and is itself a subscriber.

  client.py subscribe EVENT SOCKET       for an hour; prints the name of the subscription
  client.py raise EVENT [name=value…]    prints what became of it, one line for each subscription
  client.py stream EVENT COUNT           raises COUNT events in batches; prints how many succeeded
  client.py listen NAME COUNT            takes COUNT events as the subscriber stream:NAME; prints each, a line of JSON

The server is at $EVENTVIRTUAL_SERVER, by default 127.0.0.1:7060. The stubs are made once, from the root of the tree. With
Debian's protobuf-compiler-grpc and python3-grpcio:

  mkdir -p /tmp/stubs
  protoc -I proto --python_out=/tmp/stubs --plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin --grpc_out=/tmp/stubs \
      proto/eventvirtual/v1/*.proto
  PYTHONPATH=/tmp/stubs python3 client/examples/python/client.py listen billing 1
"""

import os
import queue
import sys

import grpc
from google.protobuf import json_format

from eventvirtual.v1 import event_pb2, event_pb2_grpc, subscription_pb2, subscription_pb2_grpc

BATCH = 100  # events of one message; several are on their way at a time


def subscribe(channel, event, socket):
    request = subscription_pb2.SubscribeRequest()
    request.subscription.event = event
    request.subscription.socket = socket
    request.subscription.ttl.FromSeconds(3600)  # subscribe again before it is over: that moves its end
    answer = subscription_pb2_grpc.SubscriptionServiceStub(channel).Subscribe(request, timeout=10)
    print(answer.subscription.name)


def raise_event(channel, name, *params):
    request = event_pb2.RaiseRequest(wait=event_pb2.WAIT_DELIVERED)  # WAIT_ACCEPTED answers as soon as it is queued
    request.event.name = name
    for param in params:
        key, _, value = param.partition("=")
        request.event.params.add(name=key, string_value=value)
    answer = event_pb2_grpc.EventServiceStub(channel).Raise(request, timeout=30)
    for delivery in answer.deliveries:
        outcome = event_pb2.DeliveryOutcome.Outcome.Name(delivery.outcome)
        print(delivery.subscription, outcome.removeprefix("OUTCOME_").lower())


def stream(channel, name, count):
    def batches():
        for first in range(0, count, BATCH):
            request = event_pb2.RaiseStreamRequest(sequence=first + 1, wait=event_pb2.WAIT_DELIVERED)
            for number in range(first, min(first + BATCH, count)):
                request.events.add(name=name).params.add(name="n", int_value=number)
            yield request

    succeeded = 0
    for answer in event_pb2_grpc.EventServiceStub(channel).RaiseStream(batches()):
        succeeded += answer.succeeded
        for failure in answer.failures:  # of one event each: try it again, or keep it
            print("event %d: %s" % (answer.sequence - 1 + failure.index, failure.message), file=sys.stderr)
    print("%d of %d succeeded" % (succeeded, count))


def listen(channel, name, count):
    requests = queue.Queue()  # gRPC takes from it what it sends
    requests.put(event_pb2.ListenRequest(name=name))
    for answer in event_pb2_grpc.EventServiceStub(channel).Listen(iter(requests.get, None)):
        # Until it is acknowledged, the server counts it as not delivered; so do first what must not be lost.
        print(json_format.MessageToJson(answer.event, indent=None, preserving_proto_field_name=True), flush=True)
        requests.put(event_pb2.ListenRequest(acks=[answer.delivery_id]))
        count -= 1
        if count == 0:
            requests.put(None)  # the sending half ends; the server closes the other


def main(words):
    commands = {"subscribe": (subscribe, 2), "raise": (raise_event, None), "stream": (stream, 2), "listen": (listen, 2)}
    if len(words) < 2 or words[0] not in commands or commands[words[0]][1] not in (None, len(words) - 1):
        sys.exit(__doc__)
    if words[0] in ("stream", "listen"):
        words[2] = int(words[2])
    with grpc.insecure_channel(os.environ.get("EVENTVIRTUAL_SERVER", "127.0.0.1:7060")) as channel:
        try:
            commands[words[0]][0](channel, *words[1:])
        except grpc.RpcError as error:
            sys.exit("%s: %s" % (error.code().name, error.details()))


if __name__ == "__main__":
    main(sys.argv[1:])
