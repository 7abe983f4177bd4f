"""integration_test: a Python test of the built programs."""

def integration_test(name, size = "medium", data = [], tags = [], **kwargs):
    """NAME.py, run by Debian's Python beside the service, evctl, the .proto files and service.py.

    Args:
      name: of the test, and of its file.
      size: as of every test.
      data: what else it opens.
      tags: besides "grpc".
      **kwargs: as of every test.
    """
    native.sh_test(
        name = name,
        size = size,
        srcs = ["run_python.sh"],
        args = ["tests/integration/%s.py" % name],
        data = [
            name + ".py",
            "service.py",
            "//client:evctl",
            "//proto:sources",
            "//server:eventvirtuald",
        ] + data,
        tags = ["grpc"] + tags,
        **kwargs
    )
