// Whatever a peer answers, it is a result, an error that can be shown, or none; what is read of it can be used as it
// is.
#include <simdjson.h>

#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/enroll/mi_answer.h"
#include "server/enroll/own_sockets.h"
#include "server/jsonrpc/event_params.h"
#include "transports/api/check.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

constexpr uint32_t kId = 7;  // of the committed answers

void CheckError(const absl::Status& status) {
  EV_CHECK(!status.ok() && !status.message().empty() && status.message().size() <= 256);
  for (char c : status.message()) EV_CHECK(absl::ascii_isprint(c));
}

// Written as OpenSIPS would list them and read again, they are the same.
void CheckSubscribers(const std::vector<ListedSubscriber>& subscribers) {
  const OwnSockets own({"tcp:127.0.0.1:9060"});
  for (const ListedSubscriber& subscriber : subscribers) {
    EV_CHECK(IsEventName(subscriber.event));
    (void)own.IsWithin(subscriber.socket);
    (void)own.BringsAll(subscriber);
    std::string name, socket;
    AppendJsonString(subscriber.event, &name);
    AppendJsonString(subscriber.socket, &socket);
    const bool for_ever = subscriber.ttl == absl::InfiniteDuration();
    const auto again = ReadSubscribers(absl::StrCat(
        R"({"Event":{"name":)", name, R"(,"id":1,"Subscriber":{"socket":)", socket,
        for_ever ? R"(,"expire":"never")" : absl::StrCat(",\"ttl\":", absl::ToInt64Seconds(subscriber.ttl)), "}}}"));
    EV_CHECK(again.ok() && again->size() == 1);
    EV_CHECK((*again)[0].event == subscriber.event && (*again)[0].socket == subscriber.socket);
    EV_CHECK((*again)[0].ttl == subscriber.ttl);
  }
}

void CheckResult(absl::string_view result) {
  EV_CHECK(simdjson::validate_utf8(result.data(), result.size()));
  if (const auto names = ReadEventNames(result); names.ok()) {
    for (const std::string& name : *names) EV_CHECK(IsEventName(name));
  } else {
    CheckError(names.status());
  }
  if (const auto subscribers = ReadSubscribers(result); subscribers.ok()) {
    CheckSubscribers(*subscribers);
  } else {
    CheckError(subscribers.status());
  }
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the property
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto answer = ReadMiAnswer(text, kId);
  if (!answer.has_value()) return 0;
  if (!answer->ok()) {
    CheckError(answer->status());
    return 0;
  }
  CheckResult(**answer);
  return 0;
}
