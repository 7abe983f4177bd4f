#include "transports/testing/conformance.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/transports/io/link_under_test.h"
#include "transports/api/uri.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kPassword = "s3cr3t";

absl::StatusOr<Target> Canonicalize(ConformancePeer& peer, absl::string_view text) {
  const absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  return peer.transport().Canonicalize(*uri);
}

MessageRef Numbered(int number, size_t padding = 0) {
  return MakeMessage("E_NUMBER", absl::StrCat(number, "/", std::string(padding, 'x')));
}

std::vector<MessageRef> ManyNumbered(int count, size_t padding = 0) {
  std::vector<MessageRef> messages;
  for (int i = 0; i < count; ++i) messages.push_back(Numbered(i, padding));
  return messages;
}

void ExpectArrives(ConformancePeer& peer, const Message& message) {
  const std::optional<std::string> received = peer.Receive(kPatience);
  ASSERT_TRUE(received.has_value()) << "did not arrive";
  const std::string expected = peer.TextOf(message);
  if (*received == expected) return;
  size_t differs = 0;
  while (differs < std::min(received->size(), expected.size()) && (*received)[differs] == expected[differs]) ++differs;
  FAIL() << "differs at byte " << differs << " of " << expected.size() << ": got " << received->substr(differs, 80)
         << ", expected " << expected.substr(differs, 80);
}

void ExpectNothingMore(ConformancePeer& peer) {
  const std::optional<std::string> more = peer.Receive(absl::ZeroDuration());
  EXPECT_FALSE(more.has_value()) << "arrived twice: " << more->substr(0, 80);
}

// Runs `task` on the link's loop; false, and a failure, if the loop does not get round to it. A link that blocks is
// then freed by Resume(), since the task holds on to this stack.
bool RunsOnLoop(ConformancePeer& peer, LinkUnderTest& link, absl::FunctionRef<void()> task) {
  Signal ran;
  link.loop().Post([&] {
    task();
    ran.Set();
  });
  if (ran.Wait()) return true;
  ADD_FAILURE() << "the loop is blocked";
  peer.Resume();
  EXPECT_TRUE(ran.Wait());
  return false;
}

// --- addresses
// ----------------------------------------------------------------------------------------------------------

void CanonicalFormIsStable(ConformancePeer& peer) {
  const absl::StatusOr<Target> target = Canonicalize(peer, peer.uri());
  ASSERT_TRUE(target.ok()) << target.status();
  const absl::StatusOr<Target> again = Canonicalize(peer, target->canonical);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->canonical, target->canonical);
  EXPECT_EQ(again->masked, target->masked);
  EXPECT_EQ(again->ack_level, target->ack_level);
  EXPECT_EQ(again->attempt_timeout, target->attempt_timeout);
  EXPECT_GT(target->attempt_timeout, absl::ZeroDuration());
  EXPECT_LT(target->attempt_timeout, absl::InfiniteDuration());
  const absl::StatusOr<Uri> masked = ParseUri(target->masked);
  ASSERT_TRUE(masked.ok()) << "what listings show must read as a subscriber: " << target->masked;
  const absl::Span<const absl::string_view> schemes = peer.transport().schemes();
  EXPECT_NE(std::find(schemes.begin(), schemes.end(), masked->scheme), schemes.end());
}

void BadAddressesAreRefusedInWords(ConformancePeer& peer) {
  const char* const joint = absl::StrContains(peer.uri(), '?') ? "&" : "?";
  const absl::Status unknown = Canonicalize(peer, absl::StrCat(peer.uri(), joint, "no_such_option=1")).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(unknown.message(), "no_such_option")) << unknown;
  for (absl::string_view scheme : peer.transport().schemes()) {
    for (const std::string& body :
         {std::string(), std::string("/"), std::string("//"), std::string(":"), std::string("@"), std::string("?"),
          std::string("%"), std::string("[::1"), std::string("h:99999999999999999999"), std::string("\xff\xfe"),
          std::string(100000, 'x'), std::string(100000, '/'), std::string(1000, '?')}) {
      const absl::StatusOr<Target> target = Canonicalize(peer, absl::StrCat(scheme, ":", body));
      if (target.ok()) continue;
      EXPECT_EQ(target.status().code(), absl::StatusCode::kInvalidArgument) << target.status();
      EXPECT_FALSE(target.status().message().empty());
    }
  }
}

void PasswordsStayHidden(ConformancePeer& peer) {
  const std::string uri = peer.uri_with_password();
  if (uri.empty()) return;
  ASSERT_TRUE(absl::StrContains(uri, kPassword));
  const absl::StatusOr<Target> target = Canonicalize(peer, uri);
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_TRUE(absl::StrContains(target->canonical, kPassword)) << "another password would share the endpoint";
  EXPECT_FALSE(absl::StrContains(target->masked, kPassword));
  EXPECT_TRUE(absl::StrContains(target->masked, "***"));
  for (const char* tail : {"?no_such_option=1", "?timeout=never", "%zz", " ", "/?/?", ":99999", "\n"}) {
    const absl::Status status = Canonicalize(peer, absl::StrCat(uri, tail)).status();
    EXPECT_FALSE(absl::StrContains(status.message(), kPassword)) << tail;
  }
  LinkUnderTest link(peer.transport(), uri);
  const absl::Status why = link.WaitReady() > 0 ? link.SendAndWait(Numbered(0)) : link.WaitClosed();
  EXPECT_FALSE(why.ok());
  EXPECT_FALSE(absl::StrContains(why.message(), kPassword)) << why;
}

// --- delivery
// -----------------------------------------------------------------------------------------------------------

void EachMessageArrivesIntact(ConformancePeer& peer) {
  LinkUnderTest link(peer.transport(), peer.uri());
  ASSERT_GT(link.WaitReady(), 0);
  const size_t largest = peer.largest() > 0 ? peer.largest() : 1 << 20;
  std::string all_bytes;  // of ASCII: control characters, quotes and backslashes among them
  for (int c = 1; c < 128; ++c) all_bytes.push_back(static_cast<char>(c));
  const Param params[] = {{"none", Null{}},
                          {"flag", true},
                          {"least", std::numeric_limits<int64_t>::min()},
                          {"real", 0.1},
                          {"text", absl::string_view("K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x93\x9e")},
                          {"json", Json{R"({"a":[1,"}"]})"}},
                          {"text", absl::string_view("the same name again")}};
  EventFields fields;
  fields.name = "E_PARAMS";
  fields.params = params;
  for (const MessageRef& message : {MakeMessage("E_EMPTY"), MakeMessage("E_BYTES", all_bytes), Message::Make(fields),
                                    MessageOfSize(largest / 2), MessageOfSize(largest), MakeMessage("E_LAST")}) {
    const absl::Status outcome = link.SendAndWait(message);
    ASSERT_TRUE(outcome.ok()) << outcome << " " << message->size() << " bytes";
    ASSERT_NO_FATAL_FAILURE(ExpectArrives(peer, *message));
  }
  ExpectNothingMore(peer);
}

void TooLargeFailsAlone(ConformancePeer& peer) {
  if (peer.largest() == 0) return;
  LinkUnderTest link(peer.transport(), peer.uri());
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  const std::vector<MessageRef> messages = {Numbered(0), MessageOfSize(peer.largest() + 1), Numbered(2)};
  std::vector<absl::Status> outcomes;
  if (window >= 3) {
    const size_t first = link.Send(messages);
    for (size_t i = 0; i < messages.size(); ++i) outcomes.push_back(link.Outcome(first + i));
  } else {
    for (const MessageRef& message : messages) outcomes.push_back(link.SendAndWait(message));
  }
  EXPECT_TRUE(outcomes[0].ok()) << outcomes[0];
  EXPECT_EQ(outcomes[1].code(), absl::StatusCode::kInvalidArgument) << outcomes[1];
  EXPECT_TRUE(outcomes[2].ok()) << outcomes[2];
  ExpectArrives(peer, *messages[0]);
  ExpectArrives(peer, *messages[2]);
  EXPECT_FALSE(link.closed());
}

void OrderIsKeptAndNothingComesTwice(ConformancePeer& peer) {
  LinkUnderTest link(peer.transport(), peer.uri());
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  constexpr int kMessages = 2000;
  constexpr int kMostAtOnce = 48;  // what every kernel's smallest buffer takes, for those who drop
  int batch_size = 1;
  for (int sent = 0; sent < kMessages;) {
    batch_size = std::min({batch_size * 2 + 1, window, kMostAtOnce, kMessages - sent});
    std::vector<MessageRef> batch;
    for (int i = 0; i < batch_size; ++i) batch.push_back(Numbered(sent + i, (sent + i) % 7));
    const size_t first = link.Send(batch);
    for (int i = 0; i < batch_size; ++i) {
      ASSERT_NO_FATAL_FAILURE(ExpectArrives(peer, *batch[i])) << sent + i;
      ASSERT_TRUE(link.Outcome(first + i).ok()) << link.Outcome(first + i);
    }
    sent += batch_size;
    if (batch_size == kMostAtOnce || batch_size == window) batch_size = 0;
  }
  ExpectNothingMore(peer);
}

void AnOkMeansThatItIsThere(ConformancePeer& peer) {
  const absl::StatusOr<Target> target = Canonicalize(peer, peer.uri());
  ASSERT_TRUE(target.ok());
  LinkUnderTest link(peer.transport(), peer.uri());
  ASSERT_GT(link.WaitReady(), 0);
  for (int i = 0; i < 50; ++i) {
    const MessageRef message = Numbered(i);
    const absl::Status outcome = link.SendAndWait(message);
    ASSERT_TRUE(outcome.ok()) << outcome;
    if (target->ack_level >= AckLevel::kConfirmed) {
      const std::optional<std::string> received = peer.Receive(absl::ZeroDuration());
      ASSERT_TRUE(received.has_value()) << "the peer confirmed what it does not have";
      EXPECT_EQ(*received, peer.TextOf(*message));
    } else {
      ASSERT_NO_FATAL_FAILURE(ExpectArrives(peer, *message));
    }
  }
}

// --- failures
// -----------------------------------------------------------------------------------------------------------

void AStalledPeerHoldsUpNobody(ConformancePeer& peer) {
  if (peer.stalled() == ConformancePeer::Stalled::kNever) return;
  LinkUnderTest link(peer.transport(), peer.uri());
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  const MessageRef before = MakeMessage("E_BEFORE");
  ASSERT_TRUE(link.SendAndWait(before).ok());
  ASSERT_NO_FATAL_FAILURE(ExpectArrives(peer, *before));

  peer.Stall();
  constexpr size_t kPadding = 60000;  // a window of these is more than buffers take
  const std::vector<MessageRef> batch = ManyNumbered(window, kPadding);
  size_t first = 0;
  if (!RunsOnLoop(peer, link, [&] { first = link.SendNow(batch); })) return;
  if (!RunsOnLoop(peer, link, [] {})) return;
  const size_t reported = link.Reported() - first;
  if (peer.stalled() == ConformancePeer::Stalled::kDropped) {
    EXPECT_EQ(reported, batch.size());
    peer.Resume();
    return;
  }
  if (peer.stalled() == ConformancePeer::Stalled::kUnanswered) {
    EXPECT_EQ(reported, 0u) << "a success that nobody confirmed";
  }
  EXPECT_LT(reported, batch.size()) << "a success that nobody read";
  peer.Resume();
  for (int i = 0; i < window; ++i) {
    ASSERT_NO_FATAL_FAILURE(ExpectArrives(peer, *batch[i])) << i;
    ASSERT_TRUE(link.Outcome(first + i).ok()) << link.Outcome(first + i);
  }
  ExpectNothingMore(peer);
}

void WhatIsOutWhenThePeerStopsEndsOnce(ConformancePeer& peer) {
  LinkUnderTest link(peer.transport(), peer.uri());
  const int window = link.WaitReady();
  ASSERT_GT(window, 0);
  peer.Stall();
  const size_t first = link.Send(ManyNumbered(window, 10000));
  peer.Stop();
  for (int i = 0; i < window; ++i) {
    const absl::Status outcome = link.Outcome(first + i);
    if (peer.stalled() == ConformancePeer::Stalled::kUnanswered) {
      ASSERT_FALSE(outcome.ok()) << "a success that nobody confirmed";
    }
  }
  OnLoop(link.loop(), [] {});  // who ends events since its peer has gone says that behind them
  // Who is not told that the peer has gone finds out with the next event.
  if (!link.closed()) {
    EXPECT_FALSE(link.SendAndWait(Numbered(window)).ok());
  }
  peer.Resume();
}

void AnAbsentPeerLosesNothingSilently(ConformancePeer& peer) {
  peer.Stop();
  LinkUnderTest link(peer.transport(), peer.uri());
  const int window = link.WaitReady();
  if (window == 0) {
    EXPECT_FALSE(link.WaitClosed().ok());
    return;
  }
  const size_t first = link.Send(ManyNumbered(std::min(window, 10)));
  for (int i = 0; i < std::min(window, 10); ++i) EXPECT_FALSE(link.Outcome(first + i).ok());
}

void ARestartedPeerIsServedByANewLinkThatStartsClean(ConformancePeer& peer) {
  for (int round = 0; round < 2; ++round) {
    {
      LinkUnderTest old(peer.transport(), peer.uri());
      const int window = old.WaitReady();
      ASSERT_GT(window, 0);
      peer.Stall();
      const size_t first = old.Send(ManyNumbered(window, 10000));
      // What cannot be stalled is let finish: it could write into the new file what it has in hand.
      for (int i = 0; i < window && peer.stalled() == ConformancePeer::Stalled::kNever; ++i)
        old.Outcome(first + i).IgnoreError();
      peer.Stop();
      peer.Resume();
    }
    peer.Start();
    while (peer.Receive(absl::ZeroDuration()).has_value()) {  // what the old link brought
    }
    LinkUnderTest link(peer.transport(), peer.uri());
    ASSERT_GT(link.WaitReady(), 0);
    for (int i = 0; i < 10; ++i) {
      const MessageRef message = MakeMessage("E_NEW", absl::StrCat(round, " ", i));
      ASSERT_TRUE(link.SendAndWait(message).ok());
      ASSERT_NO_FATAL_FAILURE(ExpectArrives(peer, *message));
    }
    ExpectNothingMore(peer);
  }
}

void DestroyingAtAnyMomentEndsWhatIsOutAndLeavesNothing(ConformancePeer& peer) {
  peer.Stop();
  const int before = OpenDescriptors();
  peer.Start();
  for (int i = 0; i < 30; ++i) {
    LinkUnderTest link(peer.transport(), peer.uri());
    if (i % 3 == 0) {  // perhaps before it is ready
      link.Destroy();
      continue;
    }
    const int window = link.WaitReady();
    ASSERT_GT(window, 0);
    const int count = std::min(window, 20);
    if (i % 3 == 2) peer.Stall();
    const size_t first = link.Send(ManyNumbered(count, 10000));
    link.Destroy();
    // It has returned, so nothing is left to wait for; but a link may leave the last words to a thread of its own.
    for (int k = 0; k < count; ++k) link.Outcome(first + k).IgnoreError();
    ASSERT_FALSE(testing::Test::HasFailure());
    peer.Resume();
    while (peer.Receive(absl::ZeroDuration()).has_value()) {
    }
  }
  peer.Stop();
  // A file is closed by the thread that writes it. A server in this process may have closed one of an earlier case.
  const absl::Time give_up = absl::Now() + kPatience;
  int after = OpenDescriptors();
  for (; after > before && absl::Now() < give_up; after = OpenDescriptors()) {
  }
  EXPECT_LE(after, before) << "descriptors are left open";
}

constexpr ConformanceCase kCases[] = {
    {"CanonicalFormIsStable", CanonicalFormIsStable},
    {"BadAddressesAreRefusedInWords", BadAddressesAreRefusedInWords},
    {"PasswordsStayHidden", PasswordsStayHidden},
    {"EachMessageArrivesIntact", EachMessageArrivesIntact},
    {"TooLargeFailsAlone", TooLargeFailsAlone},
    {"OrderIsKeptAndNothingComesTwice", OrderIsKeptAndNothingComesTwice},
    {"AnOkMeansThatItIsThere", AnOkMeansThatItIsThere},
    {"AStalledPeerHoldsUpNobody", AStalledPeerHoldsUpNobody},
    {"WhatIsOutWhenThePeerStopsEndsOnce", WhatIsOutWhenThePeerStopsEndsOnce},
    {"AnAbsentPeerLosesNothingSilently", AnAbsentPeerLosesNothingSilently},
    {"ARestartedPeerIsServedByANewLinkThatStartsClean", ARestartedPeerIsServedByANewLinkThatStartsClean},
    {"DestroyingAtAnyMomentEndsWhatIsOutAndLeavesNothing", DestroyingAtAnyMomentEndsWhatIsOutAndLeavesNothing},
};

}  // namespace

absl::Span<const ConformanceCase> ConformanceCases() { return kCases; }

}  // namespace eventvirtual
