#include "transports/nats/nats_connection.h"

#include <openssl/ssl.h>
#include <simdjson.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/api/context_headers.h"
#include "transports/api/encoding.h"
#include "transports/io/printable.h"
#include "transports/io/stream_socket.h"
#include "transports/io/tls_files.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(1);  // for all addresses together
constexpr absl::Duration kPingInterval = absl::Seconds(10);   // the third that stays unanswered ends an idle link
constexpr int64_t kJetStreamMessageTooLarge = 10054;          // nats-server: server/errors.json
constexpr absl::string_view kHeaderFrame = "NATS/1.0\r\n\r\n";

absl::string_view WordsFor(natsStatus status) {
  switch (status) {
    case NATS_TIMEOUT:
      return "the server does not answer";
    case NATS_CONNECTION_CLOSED:
      return "the server closed the connection";
    case NATS_NO_SERVER:
      return "no server accepts connections there";
    default:
      return natsStatus_GetText(status);
  }
}

absl::Status StatusOf(natsStatus status, absl::string_view detail) {
  if (const size_t place = detail.find("): "); absl::StartsWith(detail, "(") && place != absl::string_view::npos) {
    detail.remove_prefix(place + 3);  // a line of libnats' source
  }
  std::string what(WordsFor(status));
  if (!detail.empty() && detail != natsStatus_GetText(status)) absl::StrAppend(&what, ": ", Printable(detail));
  switch (status) {
    case NATS_CONNECTION_AUTH_FAILED:
      return absl::UnauthenticatedError(what);
    case NATS_SSL_ERROR:
      // What it says of a certificate, ours or the server's, and nothing else, holds this word.
      if (!absl::StrContains(what, "cert")) return absl::UnavailableError(what);
      return absl::UnauthenticatedError(absl::StrCat(what, " (ca=/path names more authorities to trust)"));
    case NATS_NOT_PERMITTED:
      return absl::PermissionDeniedError(what);
    case NATS_SECURE_CONNECTION_WANTED:
      return absl::FailedPreconditionError(absl::StrCat(what, "; the server has no TLS"));
    default:
      return absl::UnavailableError(what);
  }
}

// The last error of the calling thread.
absl::Status LastError(natsStatus status) {
  natsStatus of = NATS_OK;
  const char* const detail = nats_GetLastError(&of);
  return StatusOf(status, of == status && detail != nullptr ? detail : "");
}

int64_t Milliseconds(absl::Duration duration) { return std::max<int64_t>(absl::ToInt64Milliseconds(duration), 1); }

// How long a server may say nothing while we wait for it: no less than an endpoint waits before it gives a link up.
int64_t PatienceMs(const NatsAddress& address) {
  return Milliseconds(std::max(2 * address.timeout, absl::Duration(absl::Seconds(5))));
}

// What JetStream says to one message.
absl::Status OutcomeOf(natsMsg* answer, simdjson::dom::parser& parser) {
  if (natsMsg_IsNoResponders(answer)) {
    return absl::NotFoundError("no stream takes this subject, or the account has no JetStream");
  }
  simdjson::dom::element ack, error;
  if (parser.parse(natsMsg_GetData(answer), natsMsg_GetDataLength(answer)).get(ack) != simdjson::SUCCESS) {
    return absl::UnavailableError("the answer is not JetStream's; somebody else answers on this subject");
  }
  if (ack["error"].get(error) != simdjson::SUCCESS) {
    if (ack["stream"].error() == simdjson::SUCCESS && ack["seq"].error() == simdjson::SUCCESS) return absl::OkStatus();
    return absl::UnavailableError("the answer is not JetStream's; somebody else answers on this subject");
  }
  std::string_view description = "no reason given";
  int64_t code = 0, detail = 0;
  std::ignore = error["description"].get(description);
  std::ignore = error["code"].get(code);
  std::ignore = error["err_code"].get(detail);
  const std::string what =
      absl::StrCat("JetStream refused it: ", Printable(absl::string_view(description.data(), description.size())), " (",
                   detail, ")");
  if (detail == kJetStreamMessageTooLarge) return absl::InvalidArgumentError(what);
  return code == 404 ? absl::NotFoundError(what) : absl::UnavailableError(what);
}

// libnats shakes hands over TLS on a blocking socket and without a deadline, which it does not give away. But it does
// so on the thread that connects, and OpenSSL tells there when a handshake begins.
thread_local const NatsReports* connecting = nullptr;

void OnHandshake(const SSL* tls, int where, int /*result*/) {
  if ((where & SSL_CB_HANDSHAKE_START) != 0 && connecting != nullptr) connecting->on_handshake(SSL_get_fd(tls));
}

// Called for each SSL object of this process.
void OnNewTls(void* tls, void*, CRYPTO_EX_DATA*, int, long, void*) {  // NOLINT: the type is OpenSSL's
  if (connecting != nullptr) SSL_set_info_callback(static_cast<SSL*>(tls), OnHandshake);
}

natsStatus ConnectWith(const NatsReports& reports, natsOptions* options, natsConnection** connection) {
  static const int watched = SSL_get_ex_new_index(0, nullptr, OnNewTls, nullptr, nullptr);
  EV_CHECK(watched >= 0);
  connecting = &reports;
  const natsStatus status = natsConnection_Connect(connection, options);
  connecting = nullptr;
  return status;
}

// What libnats holds until it will not call any more.
using Reports = std::shared_ptr<const NatsReports>;

struct Answers {
  Answers(Reports reports, size_t token_at) : reports(std::move(reports)), token_at(token_at) {}
  const Reports reports;
  const size_t token_at;  // in the subject of an answer
  simdjson::dom::parser parser;
};

struct OptionsDeleter {
  void operator()(natsOptions* options) const { natsOptions_Destroy(options); }
};
using Options = std::unique_ptr<natsOptions, OptionsDeleter>;

absl::StatusOr<Options> MakeOptions(const NatsAddress& address) {
  natsOptions* made = nullptr;
  natsStatus status = natsOptions_Create(&made);
  Options options(made);
  const auto set = [&](natsStatus next) {
    if (status == NATS_OK) status = next;
  };
  set(natsOptions_SetName(made, "eventvirtual"));
  set(natsOptions_SetAllowReconnect(made, false));
  set(natsOptions_SetIgnoreDiscoveredServers(made, true));
  set(natsOptions_SetPingInterval(made, Milliseconds(kPingInterval)));
  set(natsOptions_SetMaxPingsOut(made, 2));
  set(natsOptions_SetWriteDeadline(made, PatienceMs(address)));
  // Without one libnats writes errors to stderr.
  set(natsOptions_SetErrorHandler(
      made, [](natsConnection*, natsSubscription*, natsStatus, void*) {}, nullptr));
  if (!address.user.empty())
    set(natsOptions_SetUserInfo(made, address.user.c_str(), address.password.Reveal().c_str()));
  if (!address.token.empty()) set(natsOptions_SetToken(made, address.token.Reveal().c_str()));
  if (address.tls) {
    const absl::StatusOr<TlsFiles> files = ReadTlsFiles(address.ca, address.cert, address.key);
    if (!files.ok()) return files.status();
    if (absl::StrContains(files->key, "ENCRYPTED")) {  // OpenSSL would ask at the terminal
      return absl::UnauthenticatedError(absl::StrCat("key=", address.key, ": the key is locked by a password"));
    }
    set(natsOptions_SetSecure(made, true));  // reads all authorities of the system
    set(natsOptions_SetExpectedHostname(made, address.NameOf(address.host.host).c_str()));
    set(natsOptions_SkipServerVerification(made, !address.verify));
    if (!files->ca.empty()) set(natsOptions_SetCATrustedCertificates(made, files->ca.c_str()));
    if (!files->cert.empty()) set(natsOptions_SetCertificatesChain(made, files->cert.c_str(), files->key.c_str()));
  }
  if (status != NATS_OK) return LastError(status);
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NatsConnection>> NatsConnection::Open(const NatsAddress& address,
                                                                     const std::vector<SocketAddress>& addresses,
                                                                     std::shared_ptr<const NatsReports> reports) {
  absl::StatusOr<Options> options = MakeOptions(address);
  if (!options.ok()) return options.status();
  natsOptions_SetTimeout(options->get(), Milliseconds(kConnectTimeout / static_cast<int64_t>(addresses.size())));
  auto connection = absl::WrapUnique(new NatsConnection(address));
  absl::Status status;
  for (const SocketAddress& to : addresses) {
    status = connection->Connect(to, options->get(), reports);
    if (!absl::IsUnavailable(status) && !absl::IsPermissionDenied(status)) break;
  }
  if (status.ok()) status = connection->ListenForAnswers(reports);
  if (status.ok()) return connection;
  reports->on_closed(status);  // before the end of the connection is reported, which says less
  return status;
}

absl::Status NatsConnection::Connect(const SocketAddress& to, natsOptions* options, const Reports& reports) {
  // libnats takes no socket of ours: this one is there to have the address seen where all are.
  const absl::StatusOr<int> seen = OpenStreamSocket(reinterpret_cast<const sockaddr&>(to.storage));
  if (!seen.ok()) {
    return absl::Status(seen.status().code(), absl::StrCat(to.ToString(), ": ", seen.status().message()));
  }
  close(*seen);
  // On a thread of libnats, once for a connection that was made.
  const natsConnectionHandler on_closed = [](natsConnection* connection, void* closure) {
    const std::unique_ptr<Reports> reports(static_cast<Reports*>(closure));
    const char* detail = "";
    natsStatus why = natsConnection_GetLastError(connection, &detail);
    if (why == NATS_OK) why = NATS_CONNECTION_CLOSED;
    (*reports)->on_closed(StatusOf(why, detail));
  };
  auto closure = std::make_unique<Reports>(reports);
  natsOptions_SetClosedCB(options, on_closed, closure.get());
  natsOptions_SetURL(options, absl::StrCat(address_.tls ? "tls://" : "nats://", to.ToString()).c_str());
  const natsStatus status = ConnectWith(*reports, options, &connection_);
  if (status == NATS_OK) {
    closure.release();
    return absl::OkStatus();
  }
  if (status == NATS_SSL_ERROR && !address_.tls) {
    return absl::FailedPreconditionError(absl::StrCat(to.ToString(), ": the server wants TLS: write natss://"));
  }
  const absl::Status why = LastError(status);
  return absl::Status(why.code(), absl::StrCat(to.ToString(), ": ", why.message()));
}

absl::Status NatsConnection::ListenForAnswers(const Reports& reports) {
  // The event's id and, with some encodings, more.
  if (natsConnection_HasHeaderSupport(connection_) != NATS_OK) {
    return absl::FailedPreconditionError("the server knows no headers; it must be 2.2 or later");
  }
  if (!address_.jetstream) return absl::OkStatus();
  natsInbox* inbox = nullptr;
  if (const natsStatus status = natsInbox_Create(&inbox); status != NATS_OK) return LastError(status);
  inbox_ = absl::StrCat(inbox, ".");
  natsInbox_Destroy(inbox);
  const natsMsgHandler on_answer = [](natsConnection*, natsSubscription*, natsMsg* answer, void* closure) {
    Answers& answers = *static_cast<Answers*>(closure);
    const absl::string_view subject = natsMsg_GetSubject(answer);
    uint64_t token = 0;
    if (subject.size() > answers.token_at && absl::SimpleAtoi(subject.substr(answers.token_at), &token)) {
      answers.reports->on_published(token, OutcomeOf(answer, answers.parser));
    }
    natsMsg_Destroy(answer);
  };
  auto closure = std::make_unique<Answers>(reports, inbox_.size());
  if (const natsStatus status =
          natsConnection_Subscribe(&answers_, connection_, absl::StrCat(inbox_, "*").c_str(), on_answer, closure.get());
      status != NATS_OK) {
    return LastError(status);
  }
  // Refused only when the connection has ended meanwhile. Its thread may still use the closure: it is not freed then.
  natsSubscription_SetOnCompleteCB(
      answers_, [](void* answers) { delete static_cast<Answers*>(answers); }, closure.release());
  const absl::Status allowed = Flush();
  if (allowed.code() != absl::StatusCode::kPermissionDenied) return allowed;
  return absl::PermissionDeniedError("this login may not subscribe to _INBOX.>, where JetStream's answers go");
}

NatsConnection::~NatsConnection() {
  natsSubscription_Destroy(answers_);
  natsConnection_Destroy(connection_);
}

absl::Status NatsConnection::Publish(const Message& message, uint64_t token) {
  const absl::string_view body = message.encoded(address_.encoding);
  natsMsg* made = nullptr;
  const std::string reply = address_.jetstream ? absl::StrCat(inbox_, token) : "";
  natsStatus status = natsMsg_Create(&made, address_.subject.c_str(), reply.empty() ? nullptr : reply.c_str(),
                                     body.data(), static_cast<int>(body.size()));
  const std::unique_ptr<natsMsg, decltype(&natsMsg_Destroy)> owned(made, natsMsg_Destroy);
  size_t size = body.size() + kHeaderFrame.size();
  const auto add = [&](absl::string_view name, absl::string_view value) {
    size += name.size() + value.size() + 4;  // ": " and a line's end
    if (status == NATS_OK) status = natsMsgHeader_Set(made, std::string(name).c_str(), std::string(value).c_str());
  };
  add("Nats-Msg-Id", CloudEventHeaderValue(message.event_id()));
  ForEachContextHeader(message, add);
  if (address_.encoding == Encoding::kCloudEventsBinary) {
    // CloudEvents' binding for NATS, section 3.1. A Content-Type would say that the attributes are in the body.
    ForEachCloudEventAttribute(message, [&](absl::string_view name, absl::string_view value) {
      add(absl::StrCat("ce-", name), CloudEventHeaderValue(value));
    });
    add("ce-datacontenttype", ContentType(address_.encoding));
  } else {
    add("Content-Type", ContentType(address_.encoding));
  }
  if (status != NATS_OK) return LastError(status);
  const int64_t largest = natsConnection_GetMaxPayload(connection_);
  // The server would end the connection; libnats does not count the headers.
  if (largest > 0 && size > static_cast<uint64_t>(largest)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the message has ", size, " bytes with its headers; the server takes ", largest, " (max_payload)"));
  }
  status = natsConnection_PublishMsg(connection_, made);
  return status == NATS_OK ? absl::OkStatus() : LastError(status);
}

absl::Status NatsConnection::Flush() {
  const natsStatus status = natsConnection_FlushTimeout(connection_, PatienceMs(address_));
  // What the server says against a message comes before its PONG, and may end the wait for it.
  const char* detail = "";
  const bool refused =
      status == NATS_NOT_PERMITTED || natsConnection_GetLastError(connection_, &detail) == NATS_NOT_PERMITTED;
  if (!refused) return status == NATS_OK ? absl::OkStatus() : LastError(status);
  return absl::PermissionDeniedError(
      absl::StrCat("this login may not publish to the subject \"", address_.subject, "\""));
}

}  // namespace eventvirtual
