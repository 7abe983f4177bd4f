"""cc_grpc_library: C++ messages and services by Debian's protoc and grpc_cpp_plugin, without downloads."""

load("@rules_cc//cc:defs.bzl", "cc_library")

def cc_grpc_library(name, srcs, visibility = None):
    """Generates and compiles .proto files that import one another by their path below this package.

    C++ includes the headers by the same path: "eventvirtual/v1/event.pb.h".
    """
    bases = [src[:-len(".proto")] for src in srcs]
    hdrs = [base + suffix for base in bases for suffix in (".pb.h", ".grpc.pb.h")]
    outs = [base + suffix for base in bases for suffix in (".pb.cc", ".grpc.pb.cc")]
    package = native.package_name()
    native.genrule(
        name = name + "_gen",
        srcs = srcs,
        outs = hdrs + outs,
        cmd = ("/usr/bin/protoc -I {0} --cpp_out=$(RULEDIR) --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin " +
               "--grpc_out=$(RULEDIR) $(SRCS)").format(package),
        message = "protoc",
    )
    cc_library(
        name = name,
        srcs = outs,
        hdrs = hdrs,
        copts = ["-Wno-unused-parameter", "-Wno-array-bounds", "-Wno-stringop-overflow"],
        includes = ["."],
        visibility = visibility,
        deps = ["//.bazel/sys:grpcpp"],
    )
