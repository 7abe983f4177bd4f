// What of an event stands in the journal: bytes that a later life, or a later version, reads back.
#ifndef EVENTVIRTUAL_SERVER_DURABLE_RECORDS_H_
#define EVENTVIRTUAL_SERVER_DURABLE_RECORDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/dispatch/dispatcher.h"
#include "transports/api/message.h"

namespace eventvirtual {

// Our own format and not one of the encodings for receivers: those leave out what we must give back as it came (types,
// the JSON-RPC text, attributes). A record begins with a version and a checksum (CRC-32 of zlib), because SQLite
// notices damage of its structure and not of what it holds. Numbers are little-endian. Pure; any thread.

// An event, and when it was taken over by the journal.
struct KeptEvent {
  MessageRef message;
  absl::Time accepted;
};
std::string EncodeEvent(const Message& message, absl::Time accepted);
absl::StatusOr<KeptEvent> DecodeEvent(absl::string_view record);  // DATA_LOSS: damaged, or of a newer version

// How far the policy has got.
struct Progress {
  uint32_t attempts = 0;    // FAILOVER, ROUND-ROBIN: at all subscribers together; PARALLEL: rounds
  SubscriberSet delivered;  // PARALLEL: who has it
};
std::string EncodeProgress(const Progress& progress);
absl::StatusOr<Progress> DecodeProgress(absl::string_view record);  // "" is none

// An attempt that outlives its subscription.
struct KeptAttempt {
  std::string uri;  // masked
  AttemptRecord::Result result = AttemptRecord::Result::kFailed;
  AckLevel ack_level = AckLevel::kHandedToKernel;
  absl::Status status;
  absl::Duration duration;
};
std::string EncodeAttempts(const Subscription& subscription, const std::vector<AttemptRecord>& attempts);
absl::StatusOr<std::vector<KeptAttempt>> DecodeAttempts(absl::string_view record);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DURABLE_RECORDS_H_
