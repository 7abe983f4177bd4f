#include "transports/xmlrpc/xmlrpc_transport.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/http/http_link.h"
#include "transports/http/http_options.h"
#include "transports/xmlrpc/xmlrpc_text.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"xmlrpc", "xmlrpcs"};
constexpr absl::string_view kPath = "/RPC2";  // OpenSIPS' default

struct Procedure {
  HttpPeer peer;
  std::string method;
  bool use_struct = true;
  std::vector<const Secret*> Secrets() const { return peer.Secrets(); }
};

bool IsMethod(absl::string_view text) {
  for (char c : text) {
    if (!absl::ascii_isalnum(c) && !absl::StrContains("_./", c)) return false;
  }
  return !text.empty();
}

absl::StatusOr<Procedure> ParseProcedure(const Uri& uri) {
  Procedure procedure;
  procedure.peer.tls = uri.scheme == "xmlrpcs";
  const absl::string_view body = uri.body;
  const size_t colon = body.rfind(':');
  if (colon == absl::string_view::npos || !IsMethod(body.substr(colon + 1))) {
    return absl::InvalidArgumentError(
        absl::StrCat("no method (letters, digits, '_', '.', '/') behind the last ':'; "
                     "write ",
                     uri.scheme, ":host:port:method or ", uri.scheme, ":host:port/path:method"));
  }
  procedure.method = std::string(body.substr(colon + 1));
  const absl::string_view place = body.substr(0, colon);
  const size_t slash = std::min(place.find('/'), place.size());
  absl::StatusOr<HostPort> address = ParseHostPort(place.substr(0, slash));
  if (!address.ok()) return address.status();
  procedure.peer.address = *std::move(address);
  procedure.peer.path = std::string(slash == place.size() ? kPath : place.substr(slash));
  if (absl::Status status = CheckUrlText("the path", procedure.peer.path, /*in_query=*/false); !status.ok()) {
    return status;
  }
  QueryReader query(uri);
  procedure.use_struct = query.TakeBool("use_struct_param", true);
  if (absl::Status status = TakeHttpOptions(uri, query, &procedure.peer); !status.ok()) return status;
  if (absl::Status status = query.Done(); !status.ok()) return status;
  return procedure;
}

std::string TextOf(const Procedure& procedure, bool masked) {
  const HttpPeer& peer = procedure.peer;
  QueryWriter options;
  if (!procedure.use_struct) options.Add("use_struct_param", "0");
  AddHttpOptions(peer, masked, &options);
  return absl::StrCat(peer.tls ? "xmlrpcs:" : "xmlrpc:", peer.address.ToString(), peer.path == kPath ? "" : peer.path,
                      ":", procedure.method, options.text());
}

class XmlrpcLink final : public HttpLink {
 public:
  XmlrpcLink(Procedure procedure, std::string name, Loop& loop, Host& host)
      : HttpLink(std::move(procedure.peer), "text/xml", std::move(name), loop, host),
        method_(std::move(procedure.method)),
        use_struct_(procedure.use_struct) {}

 private:
  absl::string_view Body(const Message& message, std::string* room) const override {
    *room = EncodeXmlRpc(message, method_, use_struct_);
    return *room;
  }
  absl::Status Check(const Message&, absl::string_view body, bool whole) const override {
    const absl::Status status =
        whole ? CheckXmlRpcResponse(body) : absl::UnavailableError("the answer is longer than 64 KiB");
    return status.ok() ? status : absl::Status(status.code(), absl::StrCat(name(), ": ", status.message()));
  }

  const std::string method_;
  const bool use_struct_;
};

class XmlrpcTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "xmlrpc:host:port[/path]:method[?use_struct_param=0&timeout=5s&window=1&redirects=1&header.NAME=VALUE"
           "&ca=/path&cert=/path&key=/path&server_name=NAME&verify=0]";
  }
  absl::string_view description() const override {
    return "Calls an XML-RPC method for each event, over TLS with xmlrpcs. Success: a response without a fault.";
  }
  AckLevel ack_level() const override { return AckLevel::kConfirmed; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Procedure> procedure = ParseProcedure(uri);
    if (!procedure.ok()) return procedure.status();
    return Target{.canonical = TextOf(*procedure, /*masked=*/false),
                  .masked = TextOf(*procedure, /*masked=*/true),
                  .ack_level = AckLevel::kConfirmed,
                  .attempt_timeout = procedure->peer.timeout,
                  .hosts = {procedure->peer.address},
                  .secrets = NamesIn(procedure->Secrets())};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<XmlrpcLink>(AddressOf(target, &ParseProcedure), target.masked, loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeXmlrpcTransport() { return std::make_unique<XmlrpcTransport>(); }

}  // namespace eventvirtual
