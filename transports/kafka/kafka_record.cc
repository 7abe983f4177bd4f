#include "transports/kafka/kafka_record.h"

#include <charconv>

#include "absl/strings/str_cat.h"
#include "transports/api/context_headers.h"
#include "transports/api/encoding.h"

namespace eventvirtual {
namespace {

template <typename Number>
std::string Digits(Number number) {
  char digits[32];
  return std::string(digits, std::to_chars(digits, digits + sizeof(digits), number).ptr);
}

}  // namespace

std::optional<std::string> KafkaKeyOf(const Message& message, absl::string_view name) {
  for (const Param& param : message.params()) {
    if (name.empty() || param.name != name) continue;
    if (const auto* text = std::get_if<absl::string_view>(&param.value)) return std::string(*text);
    if (const auto* json = std::get_if<Json>(&param.value)) return std::string(json->text);
    if (const auto* integer = std::get_if<int64_t>(&param.value)) return Digits(*integer);
    if (const auto* real = std::get_if<double>(&param.value)) return Digits(*real);
    if (const auto* truth = std::get_if<bool>(&param.value)) return *truth ? "true" : "false";
    return std::nullopt;
  }
  return std::nullopt;
}

rd_kafka_headers_t* KafkaHeadersOf(const Message& message, Encoding encoding) {
  rd_kafka_headers_t* const headers = rd_kafka_headers_new(8);
  const auto add = [headers](absl::string_view name, absl::string_view value) {
    rd_kafka_header_add(headers, name.data(), static_cast<ssize_t>(name.size()), value.data(),
                        static_cast<ssize_t>(value.size()));
  };
  add("event-id", message.event_id());
  ForEachContextHeader(message, add);
  if (encoding != Encoding::kJsonRpc) add("content-type", ContentType(encoding));
  if (encoding == Encoding::kCloudEventsBinary) {
    ForEachCloudEventAttribute(
        message, [&add](absl::string_view name, absl::string_view value) { add(absl::StrCat("ce_", name), value); });
  }
  return headers;
}

}  // namespace eventvirtual
