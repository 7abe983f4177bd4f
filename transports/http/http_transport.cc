#include "transports/http/http_transport.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "transports/api/encoding.h"
#include "transports/http/http_link.h"
#include "transports/http/http_options.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"http", "https"};
constexpr uint16_t kPort = 80, kTlsPort = 443;

// `what` names the part in errors; a password is never repeated.
absl::Status Decode(absl::string_view what, absl::string_view text, std::string* out) {
  std::optional<std::string> decoded = PercentDecode(text);
  if (!decoded.has_value() || absl::StrContains(*decoded, '\0')) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a '%' must be followed by two hexadecimal digits, and not by 00; write '%' as %25"));
  }
  *out = *std::move(decoded);
  return absl::OkStatus();
}

struct Receiver {
  HttpPeer peer;
  Encoding encoding = Encoding::kJsonRpc;
};

absl::StatusOr<Receiver> ParseReceiver(const Uri& uri) {
  Receiver receiver;
  HttpPeer& peer = receiver.peer;
  peer.tls = uri.scheme == "https";
  absl::string_view body = uri.body;
  if (!absl::ConsumePrefix(&body, "//")) {
    return absl::InvalidArgumentError(absl::StrCat("no // behind the scheme; write ", uri.scheme, "://host/path"));
  }
  const size_t slash = std::min(body.find('/'), body.size());
  absl::string_view authority = body.substr(0, slash);
  peer.path = slash == body.size() ? "/" : std::string(body.substr(slash));
  if (absl::StrContains(body, '?')) {
    return absl::InvalidArgumentError(
        "a '?' that no option follows; the query of the URL itself goes into option \"query\", percent-encoded: "
        "query=token%3Dabc%26x%3D1");
  }
  // Before the host, for the errors of that repeat it: an '@' here stands behind a password with a bare '/'.
  if (absl::Status status = CheckUrlText("the path", peer.path, /*in_query=*/false); !status.ok()) return status;
  if (const size_t at = authority.rfind('@'); at != absl::string_view::npos) {
    const std::pair<absl::string_view, absl::string_view> login =
        absl::StrSplit(authority.substr(0, at), absl::MaxSplits(':', 1));
    peer.login.emplace();
    if (absl::Status status = Decode("the user", login.first, &peer.login->user); !status.ok()) return status;
    if (absl::Status status = Decode("the password", login.second, &peer.login->password); !status.ok()) return status;
    if (peer.login->user.empty() || absl::StrContains(peer.login->user, ':')) {
      return absl::InvalidArgumentError("the user before '@' is empty or holds a ':' (RFC 7617 section 2)");
    }
    authority.remove_prefix(at + 1);
  }
  absl::StatusOr<HostPort> address = ParseHostPort(authority, peer.tls ? kTlsPort : kPort);
  if (!address.ok()) return address.status();
  peer.address = *std::move(address);

  QueryReader query(uri);
  peer.query = query.TakeString("query", "");
  if (absl::Status status = CheckUrlText("option \"query\"", peer.query, /*in_query=*/true); !status.ok()) {
    return status;
  }
  if (absl::Status status = TakeHttpOptions(uri, query, &peer); !status.ok()) return status;
  receiver.encoding = TakeEncoding(query, /*has_headers=*/true);
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return receiver;
}

std::string TextOf(const Receiver& receiver, bool masked) {
  const HttpPeer& peer = receiver.peer;
  std::string text = peer.tls ? "https://" : "http://";
  if (peer.login.has_value()) {
    absl::StrAppend(&text, PercentEncode(peer.login->user, ""), ":",
                    masked ? "***" : PercentEncode(peer.login->password, ""), "@");
  }
  std::string host = peer.address.ToString();
  if (peer.address.port == (peer.tls ? kTlsPort : kPort)) host.resize(host.rfind(':'));
  QueryWriter options;
  if (!peer.query.empty()) options.Add("query", masked ? "***" : peer.query);
  AddHttpOptions(peer, masked, &options);
  AddEncoding(receiver.encoding, &options);
  return absl::StrCat(text, host, peer.path, options.text());
}

class EventHttpLink final : public HttpLink {
 public:
  EventHttpLink(Receiver receiver, std::string name, Loop& loop, Host& host)
      : HttpLink(std::move(receiver.peer), ContentType(receiver.encoding), std::move(name), loop, host),
        encoding_(receiver.encoding) {}

 private:
  absl::string_view Body(const Message& message, std::string*) const override { return message.encoded(encoding_); }
  void Headers(const Message& message, AddHeader add) const override {
    ForEachTraceHeader(message, add);
    if (encoding_ != Encoding::kCloudEventsBinary) return;
    ForEachCloudEventAttribute(message, [add](absl::string_view name, absl::string_view value) {
      add(absl::StrCat("ce-", name), CloudEventHeaderValue(value));
    });
  }
  absl::Status Check(absl::string_view, bool) const override { return absl::OkStatus(); }  // the status says it

  const Encoding encoding_;
};

class HttpTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "https://[user:password@]host[:port][/path][?query=a%3Db&timeout=5s&window=1&redirects=1&header.NAME=VALUE"
           "&encoding=jsonrpc&ca=/path&cert=/path&key=/path&verify=0]";
  }
  absl::string_view description() const override {
    return "Posts each event, over TLS with https. Success: the server answered with a status of 2xx.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Receiver> receiver = ParseReceiver(uri);
    if (!receiver.ok()) return receiver.status();
    return Target{.canonical = TextOf(*receiver, /*masked=*/false),
                  .masked = TextOf(*receiver, /*masked=*/true),
                  .ack_level = AckLevel::kConfirmed,
                  .attempt_timeout = receiver->peer.timeout};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<EventHttpLink>(AddressOf(target, &ParseReceiver), target.masked, loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeHttpTransport() { return std::make_unique<HttpTransport>(); }

}  // namespace eventvirtual
