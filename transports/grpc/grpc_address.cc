#include "transports/grpc/grpc_address.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr int kMaxWindow = 256;
constexpr int64_t kMaxMessage = 1 << 30;
constexpr size_t kMaxToken = 4096;

}  // namespace

absl::StatusOr<GrpcAddress> ParseGrpcAddress(const Uri& uri) {
  GrpcAddress address;
  address.tls = uri.scheme == "grpcs";
  absl::string_view authority = uri.body;
  if (!absl::ConsumePrefix(&authority, "//")) {
    return absl::InvalidArgumentError(absl::StrCat("no // behind the scheme; write ", uri.scheme, "://host:port"));
  }
  absl::ConsumeSuffix(&authority, "/");
  // Before the host, for the errors of that repeat it.
  if (absl::StrContains(authority, '@')) {
    return absl::InvalidArgumentError("there is an '@': gRPC knows no user and password; write ?token=TOKEN");
  }
  if (absl::StrContains(authority, '/')) {
    return absl::InvalidArgumentError(
        "there is a path behind the host: what is called is always eventvirtual.v1.Receiver/Deliver");
  }
  absl::StatusOr<HostPort> host = ParseHostPort(authority);
  if (!host.ok()) return host.status();
  address.host = *std::move(host);

  QueryReader query(uri);
  address.token = query.TakeSecret("token");
  address.window = static_cast<int>(query.TakeInt("window", address.window, 1, kMaxWindow));
  address.max_message = query.TakeInt("max_message", address.max_message, 1, kMaxMessage);
  address.timeout = query.TakeDuration("timeout", address.timeout, absl::Milliseconds(1), absl::Minutes(5));
  const std::string& token = address.token.Reveal();
  if (token.size() > kMaxToken || !std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) {
    return absl::InvalidArgumentError(
        absl::StrCat("option \"token\" is not a text of at most ", kMaxToken, " visible ASCII characters"));
  }
  if (address.tls) {
    if (absl::Status status = TakeTlsOptions(query, &address); !status.ok()) return status;
  }
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return address;
}

std::string GrpcAddress::ToString(bool masked) const {
  const GrpcAddress defaults;
  QueryWriter options;
  if (!token.empty()) options.AddSecret("token", token, masked);
  if (window != defaults.window) options.Add("window", absl::StrCat(window));
  if (max_message != defaults.max_message) options.Add("max_message", absl::StrCat(max_message));
  if (timeout != defaults.timeout) options.Add("timeout", absl::FormatDuration(timeout));
  AddTlsOptions(*this, &options);
  return absl::StrCat(tls ? "grpcs://" : "grpc://", host.ToString(), options.text());
}

}  // namespace eventvirtual
