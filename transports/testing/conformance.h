// The conformance suite: what every transport must hold, whatever it speaks. Its author writes a peer, and one TEST_P:
//
//   class UdpConformance : public testing::TestWithParam<ConformanceCase> {};
//   TEST_P(UdpConformance, Holds) {
//     UdpPeer peer;
//     GetParam().run(peer);
//   }
//   INSTANTIATE_TEST_SUITE_P(Udp, UdpConformance, testing::ValuesIn(ConformanceCases()), ConformanceCaseName);
#ifndef EVENTVIRTUAL_TRANSPORTS_TESTING_CONFORMANCE_H_
#define EVENTVIRTUAL_TRANSPORTS_TESTING_CONFORMANCE_H_

#include <cstddef>
#include <optional>
#include <ostream>
#include <string>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "transports/api/message.h"
#include "transports/api/transport.h"

namespace eventvirtual {

// The other end, real: sockets, files, a server. Used by the thread of one test; runs when it is born.
class ConformancePeer {
 public:
  // What becomes of events while the peer is stalled.
  enum class Stalled {
    kNever,      // it cannot be stalled
    kDropped,    // they are lost, and nobody notices
    kHeldBack,   // after some that buffers take, they wait for it
    kUnanswered  // none is a success
  };

  virtual ~ConformancePeer() = default;

  virtual Transport& transport() = 0;
  virtual std::string uri() const = 0;  // a subscriber's text for this peer; it stays the same over Stop() and Start()

  // Goes away, and its connections break, before Stop() returns. Then back, at the same address.
  virtual void Stop() = 0;
  virtual void Start() = 0;

  // Neither reads nor answers, until Resume(). Does nothing if stalled() is kNever, or if nobody
  // reads anyway while the test does not.
  virtual Stalled stalled() const = 0;
  virtual void Stall() {}
  virtual void Resume() {}

  // The next event that arrived, as text; nothing if none comes within `patience`.
  virtual std::optional<std::string> Receive(absl::Duration patience) = 0;
  // As which text `message` arrives.
  virtual std::string TextOf(const Message& message) const { return std::string(message.jsonrpc()); }

  // Bytes of the longest JSON-RPC text that is taken; 0: there is no limit below a few megabytes.
  virtual size_t largest() const { return 0; }
  // A subscriber's text with the password "s3cr3t" for a place where nothing listens; "" if there are no passwords.
  virtual std::string uri_with_password() const { return ""; }
};

struct ConformanceCase {
  const char* name;
  void (*run)(ConformancePeer& peer);
};

absl::Span<const ConformanceCase> ConformanceCases();

inline std::string ConformanceCaseName(const testing::TestParamInfo<ConformanceCase>& info) { return info.param.name; }
inline void PrintTo(const ConformanceCase& test, std::ostream* out) { *out << test.name; }

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_TESTING_CONFORMANCE_H_
