#include "transports/io/destination_policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/destination_reference.h"
#include "tests/transports/io/numeric_address.h"

namespace eventvirtual {
namespace {

using testing::AllOf;
using testing::HasSubstr;

absl::Status Check(const DestinationPolicy& policy, const std::string& host, uint16_t port = 80) {
  const sockaddr_storage address = At(host, port);
  return policy.CheckAddress(reinterpret_cast<const sockaddr&>(address));
}

DestinationPolicy Of(absl::string_view text) {
  absl::StatusOr<DestinationPolicy> policy = DestinationPolicy::Parse(text);
  EXPECT_TRUE(policy.ok()) << policy.status();
  return *std::move(policy);
}

TEST(DestinationPolicyTest, WithoutAFileLoopbackAndPrivateNetworksAreAllowed) {
  const DestinationPolicy policy = DestinationPolicy::Default();
  for (const char* host : {"127.0.0.1", "127.255.255.254", "::1", "10.0.0.1", "10.255.255.255", "172.16.0.1",
                           "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1", "::ffff:10.1.2.3"}) {
    EXPECT_TRUE(Check(policy, host).ok()) << host;
  }
  for (const char* host : {"8.8.8.8", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255",
                           "192.169.0.0", "100.64.0.1", "2600::1", "fbff::1", "::ffff:8.8.8.8"}) {
    EXPECT_TRUE(absl::IsPermissionDenied(Check(policy, host))) << host;
  }
}

TEST(DestinationPolicyTest, SomeAddressesAreNeverAllowedWhateverTheFileSays) {
  const DestinationPolicy policy = Of("network any\nnetwork 169.254.169.254\nnetwork fe80::/10\n");
  EXPECT_TRUE(Check(policy, "8.8.8.8").ok());
  for (const char* host : {"0.0.0.0",
                           "0.1.2.3",
                           "169.254.0.1",
                           "169.254.169.254",
                           "168.63.129.16",
                           "100.100.100.200",
                           "192.0.0.192",
                           "224.0.0.1",
                           "239.255.255.250",
                           "240.0.0.1",
                           "255.255.255.255",
                           "::",
                           "::2",
                           "::127.0.0.1",
                           "::8.8.8.8",
                           "fe80::1",
                           "febf::1",
                           "ff02::1",
                           "fd00:ec2::254",
                           "fd20:ce::254",
                           "fd00:42::42",
                           "::ffff:169.254.169.254",
                           "::ffff:0.0.0.0",
                           "64:ff9b::169.254.169.254",
                           "64:ff9b:1::a9fe:a9fe",
                           "2002:a9fe:a9fe::1",
                           "2001:0:1::1",
                           "::ffff:0:169.254.169.254"}) {
    EXPECT_THAT(std::string(Check(policy, host).message()), HasSubstr("never allowed")) << host;
  }
}

TEST(DestinationPolicyTest, AnAddressOfIpv4IsTheSameInsideOneOfIpv6) {
  const DestinationPolicy v4 = Of("network 8.8.8.0/24 53");
  EXPECT_TRUE(Check(v4, "8.8.8.8", 53).ok());
  EXPECT_TRUE(Check(v4, "::ffff:8.8.8.8", 53).ok());
  EXPECT_TRUE(Check(v4, "64:ff9b::8.8.8.8", 53).ok());
  // All of IPv6 is none of IPv4.
  EXPECT_TRUE(absl::IsPermissionDenied(Check(Of("network ::/0"), "::ffff:8.8.8.8")));
  EXPECT_TRUE(absl::IsPermissionDenied(Check(Of("network ::/0"), "8.8.8.8")));
}

TEST(DestinationPolicyTest, ARefusalNamesTheValueTheRuleAndTheWayOut) {
  EXPECT_THAT(std::string(Check(DestinationPolicy::Default(), "8.8.8.8", 53).message()),
              AllOf(HasSubstr("8.8.8.8:53 is not allowed"), HasSubstr("loopback and private"),
                    HasSubstr("network 8.8.8.8 53")));
  EXPECT_THAT(std::string(Check(Of("network 10.0.0.0/8 5672"), "10.0.0.1", 22).message()),
              AllOf(HasSubstr("10.0.0.1:22"), HasSubstr("not this port"), HasSubstr("network 10.0.0.1 22")));
  EXPECT_THAT(std::string(Of("scheme kafka amqps").CheckScheme("udp").message()),
              AllOf(HasSubstr("\"udp\""), HasSubstr("amqps, kafka"), HasSubstr("\"scheme udp\"")));
  EXPECT_THAT(std::string(DestinationPolicy::Default().PlaceOf("/etc/passwd").status().message()),
              AllOf(HasSubstr("\"/etc/passwd\""), HasSubstr("--allow_directory=/etc,"), HasSubstr("directory /etc")));
}

TEST(DestinationPolicyTest, PortsMayBeNamedAndRangesOfThem) {
  const DestinationPolicy policy = Of("network 10.0.0.0/8 5672 9092-9094\nnetwork 10.1.0.0/16 1 # one more\r\n");
  for (uint16_t port : {5672, 9092, 9093, 9094}) EXPECT_TRUE(Check(policy, "10.0.0.1", port).ok()) << port;
  for (uint16_t port : {1, 5671, 5673, 9091, 9095, 0, 65535})
    EXPECT_FALSE(Check(policy, "10.0.0.1", port).ok()) << port;
  EXPECT_TRUE(Check(policy, "10.1.2.3", 1).ok());
  EXPECT_TRUE(Check(policy, "10.1.2.3", 9094).ok());
}

TEST(DestinationPolicyTest, AFileLiesInTheOutermostDirectoryThatIsAllowed) {
  const DestinationPolicy policy = Of("directory /var/log/x\ndirectory /var/log//./\ndirectory /with a blank");
  const auto place = [&policy](absl::string_view path) {
    const auto found = policy.PlaceOf(path);
    return found.ok() ? absl::StrCat(found->directory, " ", found->file) : "-";
  };
  EXPECT_EQ(place("/var/log/x/y/z.log"), "/var/log x/y/z.log");
  EXPECT_EQ(place("/var//log/./a"), "/var/log a");
  EXPECT_EQ(place("/with a blank/b"), "/with a blank b");
  for (const char* path : {"/var/log", "/var/log/", "/var/logs/a", "/var/lo", "/", "", "a", "var/log/a",
                           "/var/log/../lib/a", "/var/log/x/..", "/etc/passwd"}) {
    EXPECT_EQ(place(path), "-") << path;
  }
  EXPECT_EQ(Of("directory /").PlaceOf("/etc/passwd")->file, "etc/passwd");
  EXPECT_EQ(Of("directory /var\ndirectory /var/log").PlaceOf("/var/log/a")->file, "log/a");
}

TEST(DestinationPolicyTest, AFaultNamesItsLineAndWhatWouldBeAccepted) {
  const std::pair<const char*, const char*> kFaults[] = {
      {"\n# one\nnetwrok 10.0.0.0/8", "line 3: \"netwrok\""},
      {"network", "line 1: \"network\" lacks"},
      {"scheme", "network"},
      {"directory", "directory /var/log"},
      {"network 10.0.0.1/8", "bits set behind the first 8"},
      {"network 10.0.0.0/33", "from 0 to 32"},
      {"network fd00::/129", "from 0 to 128"},
      {"network fd00::/", "from 0 to 128"},
      {"network fd00::/\r8", "from 0 to 128"},
      {"network 10.0.0", "is not a network"},
      {"network 0x7f000001", "is not a network"},
      {"network ::ffff:10.0.0.0/104", "is not a network"},
      {"network example.org", "is not a network"},
      {"network private 0", "is not a port"},
      {"network private 65536", "is not a port"},
      {"network private 9-8", "is not a port"},
      {"network private 9-", "is not a port"},
      {"network private amqp", "is not a port"},
      {"network private \r80", "is not a port"},
      {"directory var/log", "absolute path"},
      {"directory /var/../etc", "absolute path"},
      {"scheme KAFKA", "is not a scheme"},
      {"scheme kafka:", "is not a scheme"},
      {"secret", "secret rabbit amqps broker:5671"},
      {"secret ../shadow amqps h:1", "is not the name of a secret"},
      {"secret rabbit", "lacks where it may go"},
      {"secret rabbit amqps", "lacks where it may go"},
      {"secret rabbit amqps h", "no port"},
      {"secret rabbit amqps h:1 h:x", "is not a number from 1 to 65535"},
  };
  for (const auto& [text, fault] : kFaults) {
    const absl::Status status = DestinationPolicy::Parse(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    if (std::string(text) != "scheme") {
      EXPECT_THAT(std::string(status.message()), HasSubstr(fault)) << text;
    }
    EXPECT_THAT(std::string(status.message()), HasSubstr("line ")) << text;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(DestinationPolicy::Parse(std::string("directory /a\0b", 14)).status()));
  EXPECT_TRUE(Of("scheme coap+tcp x-own2").CheckScheme("coap+tcp").ok());
  EXPECT_THAT(std::string(DestinationPolicy::Parse(std::string(10001, '\n')).status().message()),
              HasSubstr("more than 10000 lines"));
}

TEST(DestinationPolicyTest, AnEmptyFileAllowsNothing) {
  const DestinationPolicy policy = Of("# nothing\n");
  EXPECT_FALSE(Check(policy, "127.0.0.1").ok());
  EXPECT_FALSE(policy.PlaceOf("/tmp/a").ok());
  EXPECT_TRUE(policy.CheckScheme("udp").ok());
}

TEST(DestinationPolicyTest, OtherFamiliesThanIpAreRefused) {
  sockaddr_storage unix = {};
  unix.ss_family = AF_UNIX;
  EXPECT_TRUE(absl::IsPermissionDenied(Of("network any").CheckAddress(reinterpret_cast<const sockaddr&>(unix))));
}

// Random policies and addresses near the edges of what matters, against a reference that goes bit by bit.
TEST(DestinationPolicyTest, AgreesWithASlowReference) {
  std::mt19937 random(20);
  const auto below = [&random](uint32_t limit) { return static_cast<uint32_t>(random() % limit); };
  const std::vector<std::string> seeds = {"0.0.0.0",     "10.0.0.0",   "127.0.0.1",     "169.254.169.254", "172.16.0.0",
                                          "192.168.0.0", "224.0.0.0",  "168.63.129.16", "8.8.8.8",         "::",
                                          "::1",         "::ffff:0:0", "64:ff9b::",     "64:ff9b:1::",     "2001::",
                                          "2002::",      "fc00::",     "fd00:ec2::254", "fe80::",          "ff02::1",
                                          "::ffff:0:0:0"};
  int allowed = 0, refused = 0;
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (uint32_t rules = below(4); rules > 0; --rules) {
      sockaddr_storage base = At(seeds[below(seeds.size())]);
      const bool v4 = base.ss_family == AF_INET;
      auto* const bytes = v4 ? reinterpret_cast<uint8_t*>(&reinterpret_cast<sockaddr_in&>(base).sin_addr)
                             : reinterpret_cast<sockaddr_in6&>(base).sin6_addr.s6_addr;
      const uint32_t length = v4 ? 4 : 16;
      const uint32_t bits = below(length * 8 + 1);
      for (uint32_t bit = bits; bit < length * 8; ++bit) bytes[bit / 8] &= static_cast<uint8_t>(~(0x80 >> bit % 8));
      char shown[INET6_ADDRSTRLEN];
      inet_ntop(base.ss_family, bytes, shown, sizeof(shown));
      const char* const kWords[] = {"loopback", "private", "any"};
      const std::string network = below(5) == 0 ? kWords[below(3)] : absl::StrCat(shown, "/", bits);
      const char* const kPorts[] = {"", " 80", " 79-81 443", " 1-65535"};
      absl::StrAppend(&text, "network ", network, kPorts[below(4)], "\n");
    }
    const absl::StatusOr<DestinationPolicy> policy = DestinationPolicy::Parse(text);
    if (!policy.ok()) {  // a network in ::ffff:0:0/96
      ASSERT_THAT(text, HasSubstr("::ffff:"));
      continue;
    }
    const DestinationReference reference(text);
    for (int i = 0; i < 200; ++i) {
      sockaddr_storage address = At(seeds[below(seeds.size())], static_cast<uint16_t>(78 + below(5)));
      const bool v4 = address.ss_family == AF_INET;
      auto* const bytes = v4 ? reinterpret_cast<uint8_t*>(&reinterpret_cast<sockaddr_in&>(address).sin_addr)
                             : reinterpret_cast<sockaddr_in6&>(address).sin6_addr.s6_addr;
      for (uint32_t flips = below(4); flips > 0; --flips) {
        const uint32_t bit = below((v4 ? 4 : 16) * 8);
        bytes[bit / 8] ^= static_cast<uint8_t>(0x80 >> bit % 8);
      }
      if (!v4 && below(2) == 0) std::memcpy(bytes + 12, &reinterpret_cast<sockaddr_in&>(address), 4);
      const auto& peer = reinterpret_cast<const sockaddr&>(address);
      const bool allows = policy->CheckAddress(peer).ok();
      ASSERT_EQ(allows, reference.Allows(peer)) << text << policy->CheckAddress(peer);
      ++(allows ? allowed : refused);
    }
  }
  // Both happen, or nothing was tested.
  EXPECT_GT(allowed, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace eventvirtual
