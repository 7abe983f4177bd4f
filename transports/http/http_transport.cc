#include "transports/http/http_transport.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/context_headers.h"
#include "transports/api/encoding.h"
#include "transports/http/http_link.h"
#include "transports/http/http_options.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"http", "https"};

struct Receiver {
  HttpPeer peer;
  Encoding encoding = Encoding::kJsonRpc;
  std::vector<const Secret*> Secrets() const { return peer.Secrets(); }
};

absl::StatusOr<Receiver> ParseReceiver(const Uri& uri) {
  Receiver receiver;
  HttpPeer& peer = receiver.peer;
  peer.tls = uri.scheme == "https";
  if (absl::StrContains(uri.body, '?')) {
    return absl::InvalidArgumentError(
        "a '?' that no option follows; the query of the URL itself goes into option \"query\", percent-encoded: "
        "query=token%3Dabc%26x%3D1");
  }
  if (absl::Status status = TakeUrl(uri, uri.body, &peer); !status.ok()) return status;
  QueryReader query(uri);
  peer.query = query.TakeSecret("query", /*url=*/true);
  if (absl::Status status = CheckUrlText("option \"query\"", peer.query.Reveal(), /*in_query=*/true); !status.ok()) {
    return status;
  }
  if (absl::Status status = TakeHttpOptions(uri, query, &peer); !status.ok()) return status;
  receiver.encoding = TakeEncoding(query, /*has_headers=*/true);
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return receiver;
}

std::string TextOf(const Receiver& receiver, bool masked) {
  const HttpPeer& peer = receiver.peer;
  QueryWriter options;
  if (!peer.query.empty()) options.AddSecret("query", peer.query, masked);
  AddHttpOptions(peer, masked, &options);
  AddEncoding(receiver.encoding, &options);
  return absl::StrCat(UrlOf(peer, masked), options.text());
}

class EventHttpLink final : public HttpLink {
 public:
  EventHttpLink(Receiver receiver, std::string name, Loop& loop, Host& host)
      : HttpLink(std::move(receiver.peer), ContentType(receiver.encoding), std::move(name), loop, host),
        encoding_(receiver.encoding) {}

 private:
  absl::string_view Body(const Message& message, std::string*) const override { return message.encoded(encoding_); }
  void Headers(const Message& message, AddHeader add) const override {
    ForEachContextHeader(message, add);
    if (encoding_ != Encoding::kCloudEventsBinary) return;
    ForEachCloudEventAttribute(message, [add](absl::string_view name, absl::string_view value) {
      add(absl::StrCat("ce-", name), CloudEventHeaderValue(value));
    });
  }
  absl::Status Check(const Message&, absl::string_view, bool) const override {
    return absl::OkStatus();
  }  // the status says it

  const Encoding encoding_;
};

class HttpTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "https://[user:password@]host[:port][/path][?query=a%3Db&timeout=5s&window=1&redirects=1&header.NAME=VALUE"
           "&encoding=jsonrpc&ca=/path&cert=/path&key=/path&server_name=NAME&verify=0]";
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
                  .attempt_timeout = receiver->peer.timeout,
                  .hosts = {receiver->peer.address},
                  .secrets = NamesIn(receiver->Secrets())};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<EventHttpLink>(AddressOf(target, &ParseReceiver), target.masked, loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeHttpTransport() { return std::make_unique<HttpTransport>(); }

}  // namespace eventvirtual
