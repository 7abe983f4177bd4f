#include "transports/api/catalog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// Elsewhere a ${secret:NAME} would be sent, or shown, as it is written: nobody means that.
absl::Status CheckSecretPlaces(const Uri& uri, const Target& target) {
  std::vector<absl::string_view> texts = {uri.body};
  for (const auto& [name, value] : uri.query) texts.push_back(value);
  for (absl::string_view text : texts) {
    for (size_t at = text.find(kSecretBegin); at != absl::string_view::npos; at = text.find(kSecretBegin)) {
      text.remove_prefix(at + kSecretBegin.size());
      if (target.secrets.contains(text.substr(0, text.find('}')))) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("\"", kSecretBegin, "\" stands where ", uri.scheme, " has no password, token or key"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Catalog::Catalog(std::vector<std::unique_ptr<Transport>> transports) : transports_(std::move(transports)) {
  for (const std::unique_ptr<Transport>& transport : transports_) {
    for (absl::string_view scheme : transport->schemes()) {
      const bool is_new = by_scheme_.emplace(std::string(scheme), Entry{transport.get(), {}}).second;
      EV_CHECK(is_new);
    }
  }
}

absl::Status Catalog::SetDefaults(absl::string_view scheme, absl::string_view query) {
  const auto found = by_scheme_.find(std::string(scheme));
  if (found == by_scheme_.end())
    return absl::InvalidArgumentError(absl::StrCat("no transport for scheme \"", scheme, "\""));
  absl::StatusOr<Uri> uri = ParseUri(absl::StrCat(scheme, ":?", query));
  if (!uri.ok()) return uri.status();
  if (uri->query.empty()) {
    return absl::InvalidArgumentError("defaults are written name=value, joined by '&'");
  }
  found->second.defaults = std::move(uri->query);
  return absl::OkStatus();
}

absl::StatusOr<Destination> Catalog::Resolve(absl::string_view text, bool canonical) const {
  if (text.size() > max_bytes_ && !canonical) {
    return absl::InvalidArgumentError(
        absl::StrCat("the subscriber has ", text.size(), " bytes; at most ", max_bytes_, " are taken (--max_uri)"));
  }
  absl::StatusOr<Uri> uri = ParseUri(text);
  if (!uri.ok()) return uri.status();
  const auto found = by_scheme_.find(uri->scheme);
  if (found == by_scheme_.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("no transport for scheme \"", uri->scheme,
                     "\"; known: ", absl::StrJoin(by_scheme_, ", ", [](std::string* out, const auto& entry) {
                       absl::StrAppend(out, entry.first);
                     })));
  }
  for (const auto& option : found->second.defaults) {
    const bool own = std::any_of(uri->query.begin(), uri->query.end(),
                                 [&option](const auto& given) { return given.first == option.first; });
    if (!own && !canonical) uri->query.push_back(option);
  }
  absl::StatusOr<Target> target = found->second.transport->Canonicalize(*uri);
  if (!target.ok()) return target.status();
  if (absl::Status status = CheckSecretPlaces(*uri, *target); !status.ok()) return status;
  return Destination{*std::move(target), found->second.transport};
}

}  // namespace eventvirtual
