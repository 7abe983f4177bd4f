// The rules of CloudEvents 1.0 (section 3, "Context Attributes") for what a receiver was given.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_API_CLOUD_EVENT_RULES_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_API_CLOUD_EVENT_RULES_H_

#include <simdjson.h>

#include <map>
#include <regex>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace eventvirtual {

using CloudEventAttributes = std::map<std::string, std::string>;

// The first rule that these attributes break; "" if there is none.
inline std::string BrokenCloudEventRule(const CloudEventAttributes& attributes) {
  for (const char* name : {"id", "source", "specversion", "type"}) {
    const auto found = attributes.find(name);
    if (found == attributes.end() || found->second.empty()) return absl::StrCat("no ", name);
  }
  if (attributes.at("specversion") != "1.0") return "specversion is not 1.0";
  for (const auto& [name, value] : attributes) {
    for (char c : name) {
      if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9')) return absl::StrCat("the name \"", name, "\"");
    }
    if (name.size() > 20) return absl::StrCat("the name \"", name, "\" is long");
    if (!simdjson::validate_utf8(value)) return absl::StrCat(name, " is not UTF-8");
    for (size_t i = 0; i < value.size(); ++i) {
      const auto byte = static_cast<unsigned char>(value[i]);
      const bool c1 = byte == 0xc2 && static_cast<unsigned char>(value[i + 1]) < 0xa0;
      if (byte < 0x20 || byte == 0x7f || c1) return absl::StrCat(name, " holds a control character");
    }
  }
  // RFC 3986: a URI reference, by the characters it may have, and no colon before the first '/' but a scheme's.
  static const std::regex reference(
      R"re(([A-Za-z][A-Za-z0-9+.-]*:|(?=[^:]*(/|\?|#|$)))([A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*(#([A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)?)re");
  if (!std::regex_match(attributes.at("source"), reference)) {
    return absl::StrCat("source \"", attributes.at("source"), "\" is no URI reference");
  }
  absl::Time time;
  if (const auto found = attributes.find("time");
      found != attributes.end() && !absl::ParseTime(absl::RFC3339_full, found->second, &time, nullptr)) {
    return absl::StrCat("time \"", found->second, "\" is not RFC 3339");
  }
  return "";
}

// Reads an event of the structured JSON mode ("JSON Event Format for CloudEvents", section 2) into `attributes` and the
// text of its "data", and gives the first rule that it breaks.
inline std::string BrokenJsonCloudEventRule(const std::string& text, CloudEventAttributes* attributes,
                                            std::string* data) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(text).get_object().get(object) != simdjson::SUCCESS) return "no JSON object";
  for (const auto& [name, value] : object) {
    std::string_view word;
    if (name == "data") {
      *data = simdjson::minify(value);
    } else if (value.get_string().get(word) != simdjson::SUCCESS) {
      return absl::StrCat(std::string(name), " is no string");
    } else if (!attributes->emplace(name, word).second) {
      return absl::StrCat(std::string(name), " stands there twice");
    }
  }
  return BrokenCloudEventRule(*attributes);
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_API_CLOUD_EVENT_RULES_H_
