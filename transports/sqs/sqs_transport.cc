#include "transports/sqs/sqs_transport.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "transports/http/http_link.h"
#include "transports/sqs/sqs_address.h"
#include "transports/sqs/sqs_text.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"sqs"};
constexpr absl::string_view kService = "sqs";  // as it stands in signatures

// Those of the environment, by the names that all of AWS's clients know.
struct Credentials {
  Secret key_id, secret;
  Secret token;  // of temporary ones
};

// UNAUTHENTICATED names the variables that are not set, or hold what no credential does; their values are not shown.
absl::StatusOr<Credentials> CredentialsOfEnvironment() {
  Credentials credentials;
  std::string missing;
  for (const auto& [name, value, needed] : {std::tuple("AWS_ACCESS_KEY_ID", &credentials.key_id, true),
                                            std::tuple("AWS_SECRET_ACCESS_KEY", &credentials.secret, true),
                                            std::tuple("AWS_SESSION_TOKEN", &credentials.token, false)}) {
    const char* const set = std::getenv(name);
    if (set != nullptr) *value = Secret(set);
    const std::string& text = value->Reveal();
    if (text.empty() && needed) absl::StrAppend(&missing, missing.empty() ? "" : " and ", name);
    const auto strange = std::find_if_not(text.begin(), text.end(), [](char c) { return absl::ascii_isgraph(c); });
    if (strange != text.end()) {
      return absl::UnauthenticatedError(
          absl::StrCat("the environment's ", name, " holds a blank or a control character at offset ",
                       strange - text.begin(), "; is it a line end of the file that it was set from?"));
    }
  }
  if (missing.empty()) return credentials;
  return absl::UnauthenticatedError(
      absl::StrCat(missing, " not set in the server's environment; set what is missing and restart"));
}

// The peer that a link talks to; without credentials, for one that never does.
HttpPeer SigningPeer(const SqsAddress& address, const absl::StatusOr<Credentials>& credentials) {
  HttpPeer peer = address.peer;
  peer.signs_for = absl::StrCat(address.region, ":", kService);
  if (credentials.ok()) peer.login = {.user = credentials->key_id.Reveal(), .password = credentials->secret};
  return peer;
}

class SqsLink final : public HttpLink {
 public:
  SqsLink(SqsAddress address, const absl::StatusOr<Credentials>& credentials, std::string name, Loop& loop, Host& host)
      : HttpLink(SigningPeer(address, credentials), "application/x-amz-json-1.0", std::move(name), loop, host),
        address_(std::move(address)) {
    if (credentials.ok()) {
      token_ = credentials->token;
    } else {
      Close(Named(credentials.status()));
    }
  }

  void Send(absl::Span<Parcel> parcels) override {
    for (Parcel& parcel : parcels) {
      absl::Status refusal = CheckSqsMessage(address_, *parcel.message);
      if (refusal.ok()) {
        HttpLink::Send(absl::MakeSpan(&parcel, 1));
      } else {
        std::move(parcel.done).Finish(Named(refusal));
      }
    }
  }

 private:
  absl::string_view Body(const Message& message, std::string* room) const override {
    *room = EncodeSendMessage(address_, message);
    return *room;
  }
  void Headers(const Message&, AddHeader add) const override {
    add("X-Amz-Target", "AmazonSQS.SendMessage");
    if (!token_.empty()) add("X-Amz-Security-Token", token_.Reveal());
  }
  absl::Status Check(const Message& message, absl::string_view body, bool whole) const override {
    return Named(whole ? CheckSqsAnswer(body, message.encoded(address_.encoding))
                       : absl::UnavailableError("the answer is longer than 64 KiB; is it SQS?"));
  }
  absl::Status Refused(const HttpRefusal& refusal) const override {
    return Named(SqsErrorOf(refusal.status, refusal.body, token_));
  }

  absl::Status Named(const absl::Status& status) const {
    return status.ok() ? status : absl::Status(status.code(), absl::StrCat(name(), ": ", status.message()));
  }

  const SqsAddress address_;
  Secret token_;
};

class SqsTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "sqs:https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE[?region=REGION&group=NAME&timeout=5s&window=1"
           "&encoding=jsonrpc&ca=/path&cert=/path&key=/path&server_name=NAME&verify=0]";
  }
  absl::string_view description() const override {
    return "Sends to a queue of Amazon SQS, with the credentials of the server's environment. Success: SQS has stored "
           "the event.";
  }
  AckLevel ack_level() const override { return AckLevel::kDurable; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<SqsAddress> address = ParseSqsAddress(uri);
    if (!address.ok()) return address.status();
    const std::string text = address->ToString();
    return Target{.canonical = text,
                  .masked = text,
                  .ack_level = AckLevel::kDurable,
                  .attempt_timeout = address->peer.timeout,
                  .hosts = {address->peer.address}};
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<SqsLink>(AddressOf(target, &ParseSqsAddress), CredentialsOfEnvironment(), target.masked,
                                     loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeSqsTransport() { return std::make_unique<SqsTransport>(); }

}  // namespace eventvirtual
