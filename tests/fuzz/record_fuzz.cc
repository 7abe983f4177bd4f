// What stands in the journal of an event is read as it was written, or refused: whatever bytes come with a right
// checksum, what is read of them, written and read again is the same; of what was written each flipped bit and each cut
// is noticed. Whatever is read can be sent to every receiver.
#include <simdjson.h>
#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/durable/records.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr char kVersion = 1;

std::string WithChecksum(absl::string_view bytes) {
  const auto sum =
      static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uInt>(bytes.size())));
  std::string record(1, kVersion);
  for (int i = 0; i < 4; ++i) record.push_back(static_cast<char>(sum >> 8 * i));
  return absl::StrCat(record, bytes);
}

void CheckRefused(const absl::Status& status) { EV_CHECK(absl::IsDataLoss(status) && !status.message().empty()); }

template <typename Decode>
void CheckDamage(const std::string& written, size_t where, Decode decode) {
  std::string damaged = written;
  damaged[where / 8 % damaged.size()] ^= static_cast<char>(1 << where % 8);
  CheckRefused(decode(damaged).status());
  const size_t size = where % written.size();
  EV_CHECK(size == 0 || absl::IsDataLoss(decode(written.substr(0, size)).status()));  // no record is no progress
}

// NaN is not itself, so doubles are compared by their bits.
bool IsSame(const Value& a, const Value& b) {
  const auto* const one = std::get_if<double>(&a);
  const auto* const other = std::get_if<double>(&b);
  if (one == nullptr || other == nullptr) return a == b;
  return std::memcmp(one, other, sizeof(double)) == 0;
}

void CheckSame(const Message& a, const Message& b) {
  EV_CHECK(a.name() == b.name() && a.event_id() == b.event_id() && a.source() == b.source());
  EV_CHECK(a.event_time() == b.event_time() && a.is_report() == b.is_report());
  EV_CHECK(a.original_jsonrpc() == b.original_jsonrpc());
  EV_CHECK(a.params().size() == b.params().size());
  for (size_t i = 0; i < a.params().size(); ++i) {
    EV_CHECK(a.params()[i].name == b.params()[i].name && IsSame(a.params()[i].value, b.params()[i].value));
  }
  EV_CHECK(a.attributes() == b.attributes() && a.hops() == b.hops());
}

void CheckEvent(absl::string_view bytes, size_t where) {
  const absl::StatusOr<KeptEvent> kept = DecodeEvent(WithChecksum(bytes));
  if (!kept.ok()) return CheckRefused(kept.status());
  const std::string written = EncodeEvent(*kept->message, kept->accepted);
  const absl::StatusOr<KeptEvent> again = DecodeEvent(written);
  EV_CHECK(again.ok() && again->accepted == kept->accepted);
  CheckSame(*kept->message, *again->message);
  EV_CHECK(EncodeEvent(*again->message, again->accepted) == written);
  CheckDamage(written, where, &DecodeEvent);
  for (int encoding = 0; encoding < kEncodings; ++encoding) {
    EV_CHECK(kept->message->encoded(static_cast<Encoding>(encoding)) ==
             again->message->encoded(static_cast<Encoding>(encoding)));
  }
}

void CheckProgress(absl::string_view bytes, size_t where) {
  const absl::StatusOr<Progress> progress = DecodeProgress(WithChecksum(bytes));
  if (!progress.ok()) return CheckRefused(progress.status());
  const std::string written = EncodeProgress(*progress);
  const absl::StatusOr<Progress> again = DecodeProgress(written);
  EV_CHECK(again.ok() && again->attempts == progress->attempts && again->delivered == progress->delivered);
  CheckDamage(written, where, &DecodeProgress);
}

void CheckAttempts(absl::string_view bytes, size_t where) {
  const std::string record = WithChecksum(bytes);
  const absl::StatusOr<std::vector<KeptAttempt>> attempts = DecodeAttempts(record);
  if (!attempts.ok()) return CheckRefused(attempts.status());
  size_t least = 0;
  for (const KeptAttempt& attempt : *attempts) {
    least += attempt.uri.size() + (attempt.status.ok() ? 0 : attempt.status.message().size()) + 13;
  }
  EV_CHECK(least <= bytes.size());  // nothing that does not stand there
  CheckDamage(record, where, &DecodeAttempts);
}

}  // namespace
}  // namespace eventvirtual

// Two bytes say where it is damaged, the next what it is; the rest stands behind the checksum.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the property
  if (size < 3) return 0;
  const size_t where = data[0] * 256u + data[1];
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  EV_CHECK(!DecodeEvent(bytes).ok() || DecodeEvent(bytes)->message);  // with the checksum that stands there
  switch (data[2] % 4) {
    case 0:
      CheckProgress(bytes, where);
      break;
    case 1:
      CheckAttempts(bytes, where);
      break;
    default:
      CheckEvent(bytes, where);
  }
  return 0;
}
