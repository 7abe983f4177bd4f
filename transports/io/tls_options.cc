#include "transports/io/tls_options.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace eventvirtual {

absl::Status TakeTlsOptions(QueryReader& query, TlsOptions* options) {
  options->verify = query.TakeBool("verify", options->verify);
  for (const auto& [name, path] : {std::pair{"ca", &options->ca}, {"cert", &options->cert}, {"key", &options->key}}) {
    *path = query.TakeString(name, "");
    if (!path->empty() && (path->front() != '/' || absl::StrContains(*path, '\0'))) {
      return absl::InvalidArgumentError(absl::StrCat("option \"", name, "\" is not the absolute path of a PEM file"));
    }
  }
  if (options->cert.empty() != options->key.empty()) {
    return absl::InvalidArgumentError("options \"cert\" and \"key\" go together: a certificate and its private key");
  }
  if (!options->verify && !options->ca.empty()) {
    return absl::InvalidArgumentError("option \"ca\" has no effect with verify=0; leave one of them out");
  }
  const std::string name = query.TakeString("server_name", "");
  if (name.empty()) return absl::OkStatus();
  const absl::StatusOr<HostPort> host = ParseHostPort(name, /*default_port=*/1);
  if (!host.ok() || name.find(':') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("option \"server_name\": \"", absl::CHexEscape(name), "\" is not the name of a host"));
  }
  options->server_name = host->host;
  return absl::OkStatus();
}

void AddTlsOptions(const TlsOptions& options, QueryWriter* query) {
  if (!options.verify) query->Add("verify", "0");
  if (!options.ca.empty()) query->Add("ca", options.ca);
  if (!options.cert.empty()) query->Add("cert", options.cert);
  if (!options.key.empty()) query->Add("key", options.key);
  if (!options.server_name.empty()) query->Add("server_name", options.server_name);
}

}  // namespace eventvirtual
