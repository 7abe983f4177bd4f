// An event that is understood, written out and read again is the same event; one that is refused says why, and its id
// can stand in the answer.
#include <simdjson.h>

#include <cstdint>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/ingest/opensips_event.h"
#include "transports/api/check.h"
#include "transports/api/hops.h"
#include "transports/api/jsonrpc.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxError = 256;

bool IsUtf8(absl::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

// A JSON number does not tell 1.0 from 1.
bool IsSame(const Value& written, const Value& read) {
  const auto* const real = std::get_if<double>(&written);
  const auto* const integer = std::get_if<int64_t>(&read);
  return real != nullptr && integer != nullptr ? *real == static_cast<double>(*integer) : written == read;
}

// As AppendJsonRpc() promises: one named parameter, and the nameless are named by their position.
std::string WrittenName(const Message& message, size_t i, bool has_event_param) {
  bool named = has_event_param;
  for (const Param& param : message.params()) named = named || !param.name.empty();
  const absl::string_view name = message.params()[i].name;
  return named && name.empty() ? absl::StrCat(i) : std::string(name);
}

void CheckEvent(absl::string_view text, const std::string& event_param, OpensipsEventParser* parser) {
  const OpensipsEvent event = parser->Parse(text, absl::UnixEpoch());
  OpensipsEventParser other_parser(event_param);
  if (!event.id.empty() && event.id != "null") {  // null: unreadable, and not the id of a request that is taken
    const OpensipsEvent echo = other_parser.Parse(absl::StrCat("{\"id\":", event.id, "}"), absl::UnixEpoch());
    EV_CHECK(echo.id == event.id);
  }
  if (!event.message) {
    EV_CHECK(event.error_code == -32700 || event.error_code == -32600 || event.error_code == -32602);
    EV_CHECK(!event.error.empty() && event.error.size() <= kMaxError && IsUtf8(event.error));
    return;
  }
  EV_CHECK(event.id != "null");
  const Message& message = *event.message;
  std::string written;
  const bool hops = message.hops() < kMostHops;
  AppendJsonRpc(message, {.id = event.id, .method = "", .event_param = event_param, .hops = hops}, &written);
  EV_CHECK(IsUtf8(written));
  const OpensipsEvent again = other_parser.Parse(written, absl::UnixEpoch());
  EV_CHECK(again.message);
  EV_CHECK(again.id == event.id);
  EV_CHECK(again.message->name() == message.name());
  EV_CHECK(again.message->hops() == (hops ? message.hops() + 1 : 0));
  EV_CHECK(again.message->params().size() == message.params().size());
  for (size_t i = 0; i < message.params().size(); ++i) {
    EV_CHECK(again.message->params()[i].name == WrittenName(message, i, !event_param.empty()));
    EV_CHECK(IsSame(message.params()[i].value, again.message->params()[i].value));
  }
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Kept, as a listener keeps its own: nothing of one event may be left in the next.
  static auto* const plain = new eventvirtual::OpensipsEventParser("");
  static auto* const with_event_param = new eventvirtual::OpensipsEventParser("event");
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  eventvirtual::CheckEvent(text, "", plain);
  eventvirtual::CheckEvent(text, "event", with_event_param);
  return 0;
}
