#include "server/http/http_server.h"

#include <microhttpd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

// A client that sends more than is taken learns it from the answer, as long as it can be let finish.
constexpr size_t kBodiesThrownAway = 16;
constexpr absl::Duration kLinger = absl::Seconds(1);
constexpr absl::Duration kSweepPause = absl::Milliseconds(200);

HttpResponse Plain(int status, std::string text) { return {status, "text/plain; charset=utf-8", std::move(text)}; }

}  // namespace

absl::string_view HttpRequest::Argument(absl::string_view name) const {
  for (const auto& [key, value] : arguments) {
    if (key == name) return value;
  }
  return "";
}

struct HttpReply::Exchange {
  HttpServer& server;
  MHD_Connection* const peer;
  std::string body;
  size_t received = 0;  // bytes of the body, also of those beyond the limit
  bool asked = false;   // the handler
  bool suspended = false;
  std::optional<HttpResponse> response;
  std::string allow;  // of 405
  size_t unsent = 0;
};

HttpReply::~HttpReply() {
  if (!exchange_.expired()) std::move(*this).Send(Plain(500, "the request was given up\n"));
}

void HttpReply::Send(HttpResponse response) && {
  const std::shared_ptr<Exchange> exchange = std::exchange(exchange_, {}).lock();
  if (exchange == nullptr || exchange->response.has_value()) return;
  exchange->response = std::move(response);
  if (!std::exchange(exchange->suspended, false)) return;
  MHD_resume_connection(exchange->peer);
  exchange->server.RunSoon();
}

HttpServer::HttpServer(BoundSocket listening, Loop& loop, std::vector<HttpRoute> routes, const HttpLimits& limits)
    : loop_(loop),
      routes_(std::move(routes)),
      limits_(limits),
      caps_(limits.max_connections, limits.max_connections_per_peer) {
  // The library does the protocol. Sockets are accepted here, and time is kept here: its own timeouts begin anew with
  // every byte.
  const MHD_AccessHandlerCallback on_request = [](void* self, MHD_Connection* peer, const char* path,
                                                  const char* method, const char*, const char* body, size_t* size,
                                                  void** context) {
    auto* const connection =
        static_cast<Connection*>(MHD_get_connection_info(peer, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context);
    *context = connection;  // not null: OnResponseSent() will be told
    auto* const server = static_cast<HttpServer*>(self);
    return server->OnRequest(peer, connection, path, method, body, size) ? MHD_YES : MHD_NO;
  };
  const MHD_RequestCompletedCallback on_completed = [](void* self, MHD_Connection*, void** context,
                                                       MHD_RequestTerminationCode) {
    if (*context != nullptr) static_cast<HttpServer*>(self)->OnResponseSent(static_cast<Connection*>(*context));
  };
  const MHD_NotifyConnectionCallback on_connection = [](void* self, MHD_Connection* peer, void** context,
                                                        MHD_ConnectionNotificationCode code) {
    static_cast<HttpServer*>(self)->OnConnection(peer, context, code == MHD_CONNECTION_NOTIFY_STARTED);
  };
  daemon_ = MHD_start_daemon(
      MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, nullptr, nullptr, on_request, this,  //
      MHD_OPTION_NOTIFY_COMPLETED, on_completed, this,                                                             //
      MHD_OPTION_NOTIFY_CONNECTION, on_connection, this,                                                           //
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits_.max_head,                                                        //
      MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned>(2 * limits_.max_connections), MHD_OPTION_END);
  EV_CHECK(daemon_ != nullptr);
  run_ = loop.NewTimer([this] { Run(); });
  sweep_ = loop.NewTimer([this] { Sweep(); });
  linger_ = loop.NewTimer([this] { hold_.reset(); });
  watch_ = loop.NewWatch(MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
                         [this](Loop::Readiness) { Run(); });
  watch_->Want({.readable = true, .writable = false});
  acceptor_ = std::make_unique<Acceptor>(std::move(listening), loop, [this](int fd) { Take(fd); });
}

HttpServer::~HttpServer() {
  acceptor_.reset();
  watch_.reset();
  for (Connection& connection : connections_) {
    if (connection.exchange != nullptr && std::exchange(connection.exchange->suspended, false)) {
      MHD_resume_connection(connection.exchange->peer);  // or it could not be stopped
    }
  }
  MHD_stop_daemon(daemon_);
}

void HttpServer::Finish(std::shared_ptr<void> hold) {
  acceptor_->Stop();
  finishing_ = true;
  hold_ = std::move(hold);
  linger_->Arm(loop_.Now() + kLinger);
  for (const Connection& connection : connections_) {
    if (connection.exchange == nullptr || !connection.exchange->asked) shutdown(connection.fd, SHUT_RDWR);
  }
  Run();
  if (connections_.empty()) hold_.reset();
}

void HttpServer::Take(int fd) {
  ConnectionCaps::Verdict verdict = caps_.Admit(fd);
  if (verdict != ConnectionCaps::Verdict::kAdmitted) {
    const auto goes = [this, fd, verdict](const Connection& one) {
      return !one.goes && (one.exchange == nullptr || !one.exchange->suspended) &&
             (verdict == ConnectionCaps::Verdict::kTooMany || caps_.IsOfPeerOf(fd, one.fd));
    };
    const auto victim = std::find_if(connections_.begin(), connections_.end(), goes);
    if (victim != connections_.end()) {
      victim->goes = true;
      shutdown(victim->fd, SHUT_RDWR);
      caps_.Closed(victim->fd);  // the library may see it a moment later
      verdict = caps_.Admit(fd);
    }
    if (verdict != ConnectionCaps::Verdict::kAdmitted) {
      close(fd);
      return;
    }
  }
  if (MHD_add_connection(daemon_, fd, nullptr, 0) != MHD_YES) caps_.Closed(fd);
  Run();
}

void HttpServer::Run() {
  MHD_run(daemon_);
  MHD_UNSIGNED_LONG_LONG milliseconds = 0;
  if (MHD_get_timeout(daemon_, &milliseconds) == MHD_YES) {
    run_->Arm(loop_.Now() + absl::Milliseconds(static_cast<int64_t>(milliseconds)));
  }
}

// The library does not notice an end that comes together with bytes: its edge-triggered epoll tells of both at once,
// and it reads but once. It does notice a shutdown().
void HttpServer::Sweep() {
  const absl::Time now = loop_.Now();
  for (const Connection& connection : connections_) {
    char byte;
    const bool ended = (connection.exchange == nullptr || !connection.exchange->asked) &&
                       recv(connection.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    if (ended || now >= connection.since + limits_.patience) shutdown(connection.fd, SHUT_RDWR);
  }
  Run();
  sweeping_ = !connections_.empty();
  if (sweeping_) sweep_->Arm(now + std::min(kSweepPause, limits_.patience));
}

void HttpServer::OnConnection(MHD_Connection* peer, void** context, bool begins) {
  if (begins) {
    Connection& connection = connections_.emplace_back();
    connection.fd = MHD_get_connection_info(peer, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    *context = &connection;
    return Await(&connection);
  }
  caps_.Closed(static_cast<Connection*>(*context)->fd);
  connections_.remove_if([context](const Connection& connection) { return &connection == *context; });
  if (connections_.empty()) hold_.reset();
}

void HttpServer::Await(Connection* connection) {
  connection->since = loop_.Now();
  const auto is_it = [connection](const Connection& one) { return &one == connection; };
  connections_.splice(connections_.end(), connections_, std::find_if(connections_.begin(), connections_.end(), is_it));
  if (!std::exchange(sweeping_, true)) sweep_->Arm(loop_.Now());
}

// Called when the head of a request has come, with each part of its body, and at its end until there is a response.
// False ends the connection.
bool HttpServer::OnRequest(MHD_Connection* peer, Connection* connection, const char* path, const char* method,
                           const char* body, size_t* size) {
  if (connection->exchange == nullptr) {
    connection->exchange = std::shared_ptr<Exchange>(new Exchange{*this, peer});
    return true;
  }
  Exchange& exchange = *connection->exchange;
  if (*size > 0) {
    exchange.received += *size;
    if (exchange.received > kBodiesThrownAway * limits_.max_body) return false;
    if (exchange.received <= limits_.max_body) exchange.body.append(body, *size);
    *size = 0;
    return true;
  }
  if (!std::exchange(exchange.asked, true)) {
    Await(connection);
    Ask(connection->exchange, method, path);
  }
  if (exchange.response.has_value()) return Respond(peer, &exchange);
  exchange.suspended = true;
  MHD_suspend_connection(peer);
  return true;
}

void HttpServer::Ask(const std::shared_ptr<Exchange>& exchange, absl::string_view method, absl::string_view path) {
  std::vector<absl::string_view> allowed;
  for (const HttpRoute& route : routes_) {
    if (route.path != path) continue;
    if (route.method != method && !(route.method == "GET" && method == "HEAD")) {
      allowed.push_back(route.method);
      if (route.method == "GET") allowed.push_back("HEAD");
    } else if (exchange->received > limits_.max_body) {
      const size_t most = limits_.max_body;
      const std::string why =
          limits_.limit_of_body.has_value()
              ? std::string(Exceeded(*limits_.limit_of_body, "the body", exchange->received, "bytes", most).message())
              : absl::StrCat("at most ", most, " bytes are taken");
      exchange->response = Plain(413, absl::StrCat(why, "\n"));
      return;
    } else {
      HttpRequest request{exchange->body};
      const char* const shown = MHD_lookup_connection_value(exchange->peer, MHD_HEADER_KIND, "Authorization");
      if (shown != nullptr) request.authorization = shown;
      const auto add = [](void* arguments, MHD_ValueKind, const char* key, size_t key_size, const char* value,
                          size_t value_size) {
        static_cast<decltype(HttpRequest::arguments)*>(arguments)->emplace_back(
            absl::string_view(key, key_size), absl::string_view(value != nullptr ? value : "", value_size));
        return MHD_YES;
      };
      MHD_get_connection_values_n(exchange->peer, MHD_GET_ARGUMENT_KIND, add, &request.arguments);
      return route.handle(request, HttpReply(exchange));
    }
  }
  if (allowed.empty()) {
    const auto append = [](std::string* out, const HttpRoute& route) { absl::StrAppend(out, route.path); };
    exchange->response =
        Plain(404, absl::StrCat("there is nothing here; known: ", absl::StrJoin(routes_, ", ", append), "\n"));
  } else {
    exchange->allow = absl::StrJoin(allowed, ", ");
    exchange->response = Plain(405, absl::StrCat("use ", exchange->allow, "\n"));
  }
}

bool HttpServer::Respond(MHD_Connection* peer, Exchange* exchange) {
  HttpResponse response = *std::exchange(exchange->response, HttpResponse());
  if (unsent_ + response.body.size() > limits_.max_unsent) {
    response = Plain(503, "other clients have not taken their responses yet; try again\n");
  }
  exchange->unsent = response.body.size();
  unsent_ += exchange->unsent;
  auto* const body = new std::string(std::move(response.body));
  MHD_Response* const made = MHD_create_response_from_buffer_with_free_callback_cls(
      body->size(), body->data(), [](void* kept) { delete static_cast<std::string*>(kept); }, body);
  if (!response.content_type.empty()) MHD_add_response_header(made, "Content-Type", response.content_type.c_str());
  for (const auto& [name, value] : response.headers) MHD_add_response_header(made, name.c_str(), value.c_str());
  if (!exchange->allow.empty()) MHD_add_response_header(made, "Allow", exchange->allow.c_str());
  const bool queued = MHD_queue_response(peer, static_cast<unsigned>(response.status), made) == MHD_YES;
  MHD_destroy_response(made);
  return queued;
}

void HttpServer::OnResponseSent(Connection* connection) {
  unsent_ -= connection->exchange->unsent;
  connection->exchange.reset();
  if (!finishing_) return Await(connection);
  shutdown(connection->fd, SHUT_RDWR);  // nothing more is taken
  RunSoon();
}

}  // namespace eventvirtual
