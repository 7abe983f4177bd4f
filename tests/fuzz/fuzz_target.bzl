"""fuzz_target: a property of a parser, for libFuzzer and, over its committed corpus, as an ordinary test."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")

def fuzz_target(name, deps):
    """NAME.cc defines LLVMFuzzerTestOneInput(); the corpus of x_fuzz is the folder x_corpus, x.dict its dictionary.

    Makes the binary NAME, which only clang links (`./dev fuzz NAME`), and the test NAME_corpus_test."""
    corpus = name[:-len("_fuzz")] + "_corpus"
    cc_library(
        name = name + "_property",
        testonly = True,
        srcs = [name + ".cc"],
        deps = deps,
        alwayslink = True,
    )
    cc_binary(
        name = name,
        testonly = True,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":" + name + "_property"],
    )
    cc_test(
        name = name + "_corpus_test",
        size = "small",
        srcs = ["corpus_main.cc"],
        args = [native.package_name() + "/" + corpus],
        data = native.glob([corpus + "/*"], allow_empty = True),
        deps = [
            ":" + name + "_property",
            "//.bazel/sys:gtest",
        ],
    )
