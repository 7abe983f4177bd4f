#!/bin/sh
# The stubs of the API, into eventvirtual/v1. With Debian's protobuf-compiler, protoc-gen-go and protoc-gen-go-grpc.
set -eu
cd "$(dirname "$0")"
protos=${EVENTVIRTUAL_PROTO:-../../../proto}
set --
for name in event operator receiver subscription; do
  set -- "$@" "eventvirtual/v1/$name.proto"
done
for name in "$@"; do # the files of the API name no package of Go: it is the caller's
  options="${options:-},M$name=eventvirtual/example/eventvirtual/v1"
done
protoc -I "$protos" --go_out=. --go_opt="module=eventvirtual/example$options" --go-grpc_out=. \
  --go-grpc_opt="module=eventvirtual/example$options" "$@"
