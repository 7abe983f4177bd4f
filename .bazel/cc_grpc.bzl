"""cc_grpc_library: protoc + grpc_cpp_plugin from Debian, no downloads."""

load("@rules_cc//cc:defs.bzl", "cc_library")

def cc_grpc_library(name, src, deps = [], grpc = True, mock = False, visibility = None):
    """src: one .proto file of this package, imported as <package>/<src>."""
    base = src[:-len(".proto")]
    hdrs = [base + ".pb.h"]
    srcs = [base + ".pb.cc"]
    cmd = "/usr/bin/protoc -I . --cpp_out=$(GENDIR)"
    if grpc:
        hdrs.append(base + ".grpc.pb.h")
        srcs.append(base + ".grpc.pb.cc")
        opt = "generate_mock_code=true:" if mock else ""
        if mock:
            hdrs.append(base + "_mock.grpc.pb.h")
        cmd += " --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin --grpc_out=%s$(GENDIR)" % opt
    native.genrule(
        name = name + "_gen",
        srcs = [src],
        outs = hdrs + srcs,
        cmd = cmd + " $(location %s)" % src,
        message = "protoc",
    )
    cc_library(
        name = name,
        srcs = srcs,
        hdrs = hdrs,
        copts = ["-Wno-unused-parameter", "-Wno-array-bounds", "-Wno-stringop-overflow"],
        deps = deps + (["//.bazel/sys:grpcpp"] if grpc else ["//.bazel/sys:protobuf"]),
        visibility = visibility,
    )
