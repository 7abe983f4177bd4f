"""The layer check finds each violation planted in a small tree, at its line, and leaves a sound tree alone."""

import os
import tempfile
import unittest

import check_layers


def found_in(files):
    """The violations of a tree of {path: content}."""
    with tempfile.TemporaryDirectory() as root:
        for path, content in files.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(content)
        return check_layers.violations(root)


class SoundTree(unittest.TestCase):

    def test_what_the_architecture_allows_passes(self):
        self.assertEqual([], found_in({
            "transports/api/uri.h": '#include <sys/socket.h>\n#include "absl/strings/string_view.h"\n',
            "transports/api/BUILD": 'cc_library(\n    name = "uri",\n    deps = ["//.bazel/sys:absl", ":check"],\n)\n',
            "transports/io/event_loop.cc": '#include <event2/event.h>\n#include "transports/api/loop.h"\nstd::thread t;\n',
            "transports/udp/udp_transport.cc": '#include "transports/io/resolver.h"\n#include "transports/udp/x.h"\n',
            "transports/udp/BUILD": 'package(default_visibility = ["//visibility:private"])\ncc_library(\n'
                                    '    name = "udp",\n    visibility = [\n        "//tests:__subpackages__",\n'
                                    '        "//transports:__pkg__",\n    ],\n    deps = ["//transports/io:resolver"],\n)\n',
            "transports/all.cc": '#include "transports/udp/udp_transport.h"\n#include "transports/tcp/tcp_transport.h"\n',
            "server/dispatch/dispatcher.cc": '#include "server/registry/registry.h"\n',
            "server/rpc/event_service.cc": '#include <grpcpp/grpcpp.h>\n#include "server/dispatch/dispatcher.h"\n',
            "server/server.cc": '#include "transports/all.h"\n#include "server/rpc/event_service.h"\nabsl::Now();\n',
            "client/evctl.cc": '#include "proto/eventvirtual/v1/event.grpc.pb.h"\n',
            "tests/server/x_test.cc": '#include "transports/testing/fake_transport.h"\n#include "server/server.h"\n',
            "server/registry/registry.cc": '// not absl::Now(): time comes with the call\nLog("absl::Now()");\n',
        }))


class PlantedViolation(unittest.TestCase):

    def expect(self, path, content, line, *words):
        found = found_in({path: content})
        self.assertEqual(1, len(found), found)
        self.assertTrue(found[0].startswith("%s:%d: " % (path, line)), found[0])
        for word in words:
            self.assertIn(word, found[0])

    def test_in_an_include(self):
        for path, used in (
            ("transports/api/uri.h", "grpcpp/grpcpp.h"),
            ("transports/api/uri.h", "event2/event.h"),
            ("transports/api/uri.h", "ares.h"),
            ("transports/api/uri.h", "transports/io/event_loop.h"),
            ("transports/io/event_loop.cc", "transports/udp/udp_transport.h"),
            ("transports/udp/udp_transport.cc", "server/endpoint/endpoint.h"),
            ("transports/udp/udp_transport.cc", "client/event_client.h"),
            ("transports/udp/udp_transport.cc", "transports/unix/unix_transport.h"),
            ("transports/udp/udp_transport.cc", "google/protobuf/message.h"),
            ("transports/udp/udp_transport.cc", "transports/testing/fake_transport.h"),
            ("server/endpoint/endpoint.h", "server/registry/registry.h"),
            ("server/endpoint/endpoint.h", "server/dispatch/policy.h"),
            ("server/registry/registry.h", "server/dispatch/policy.h"),
            ("server/registry/registry.h", "server/rpc/event_service.h"),
            ("server/registry/registry.h", "server/ingest/ingest.h"),
            ("server/registry/registry.h", "transports/io/event_loop.h"),
            ("server/dispatch/dispatcher.h", "server/rpc/event_service.h"),
            ("server/dispatch/dispatcher.h", "server/ingest/ingest.h"),
            ("server/dispatch/dispatcher.h", "proto/eventvirtual/v1/event.pb.h"),
            ("server/ingest/ingest.cc", "grpcpp/server.h"),
            ("server/enroll/enroller.h", "transports/io/event_loop.h"),
            ("server/enroll/mi_client.cc", "transports/io/stream_connector.h"),
            ("server/files/reloaded.cc", "transports/io/event_loop.h"),
            ("server/files/reloaded.cc", "server/access/access.h"),
            ("server/access/access.cc", "transports/io/small_file.h"),
            ("server/access/access.cc", "server/registry/registry.h"),
            ("server/rpc/event_service.cc", "transports/all.h"),
            ("server/rpc/event_service.cc", "transports/tcp/tcp_transport.h"),
            ("server/main.cc", "transports/all.h"),
            ("server/server.h", "transports/tcp/tcp_transport.h"),
            ("client/evctl.cc", "server/options.h"),
            ("client/evctl.cc", "transports/api/uri.h"),
        ):
            for form in ('#include "%s"', "  #  include <%s>"):
                with self.subTest(path=path, used=used, form=form):
                    self.expect(path, "// A comment.\n" + form % used + "\n", 2, "includes " + used)

    def test_in_the_deps_of_a_target(self):
        for path, label in (
            ("transports/api/BUILD", "//.bazel/sys:event"),
            ("transports/io/BUILD", "//transports/tcp:tcp_transport"),
            ("transports/tcp/BUILD", "//transports/udp:udp_transport"),
            ("transports/tcp/BUILD", "//server/endpoint"),
            ("transports/tcp/BUILD", "//.bazel/sys:protobuf"),
            ("server/endpoint/BUILD", "//server/registry:registry"),
            ("server/registry/BUILD", "//.bazel/sys:grpcpp"),
            ("server/dispatch/BUILD", "//proto/eventvirtual/v1:event"),
            ("server/rpc/BUILD", "//transports:all"),
            ("client/BUILD", "//transports/api:uri"),
        ):
            with self.subTest(path=path, label=label):
                self.expect(path, 'cc_library(\n    name = "x",\n    deps = [\n        "%s",\n    ],\n)\n' % label, 4,
                            "depends on " + label)

    def test_in_the_visibility_of_a_transport(self):
        for form in ('package(default_visibility = ["%s"])\n', 'cc_library(\n    visibility = ["%s"],\n)\n',
                     'cc_library(\n    visibility = [\n        "%s",\n    ],\n)\n'):
            content = form % "//server:__pkg__"
            with self.subTest(form=form):
                line = content[:content.index("//server")].count("\n") + 1
                self.expect("transports/tcp/BUILD", content, line, "is visible to //server:__pkg__")

    def test_in_a_call(self):
        for path, call in (
            ("server/registry/registry.cc", "absl::Now()"),
            ("server/dispatch/dispatcher.cc", "steady_clock::now()"),
            ("transports/tcp/tcp_transport.cc", "std::thread t(run)"),
            ("tests/server/x_test.cc", "absl::SleepFor(absl::Seconds(1))"),
            ("client/evctl.cc", "std::this_thread::sleep_for(1s)"),
            ("transports/nats/nats_address.h", "std::string user, password, token"),
            ("transports/sqs/sqs_transport.cc", "std::string token_"),
        ):
            with self.subTest(path=path, call=call):
                self.expect(path, "void F() {\n  %s;\n}\n" % call, 2, "has " + call.split("(")[0].split(" ")[0])


if __name__ == "__main__":
    unittest.main()
