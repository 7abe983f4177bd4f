// HttpServer: a small HTTP/1.1 server on a loop, for the management interface and for what operators look at.
#ifndef EVENTVIRTUAL_SERVER_HTTP_HTTP_SERVER_H_
#define EVENTVIRTUAL_SERVER_HTTP_HTTP_SERVER_H_

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/limits/limits.h"
#include "transports/api/loop.h"
#include "transports/io/acceptor.h"
#include "transports/io/bound_socket.h"
#include "transports/io/connection_caps.h"

struct MHD_Connection;
struct MHD_Daemon;

namespace eventvirtual {

// Its texts live until the handler returns.
struct HttpRequest {
  absl::string_view body;
  std::vector<std::pair<absl::string_view, absl::string_view>> arguments;  // of the query, without their %-escapes

  absl::string_view authorization;  // the header; "" if there is none

  // What the query says first of `name`; "" if nothing.
  absl::string_view Argument(absl::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type;  // "": there is no such header
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};  // others
};

// What a handler owes for its request: one response. Destroyed unsent, it is 500. On the loop; harmless once the server
// or the client has gone. Move-only.
class HttpReply {
 public:
  HttpReply(HttpReply&&) = default;
  HttpReply& operator=(HttpReply&&) = delete;
  ~HttpReply();
  void Send(HttpResponse response) &&;

 private:
  friend class HttpServer;
  struct Exchange;
  explicit HttpReply(std::weak_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}
  std::weak_ptr<Exchange> exchange_;
};

struct HttpRoute {
  std::string method;  // the one that is taken; with "GET", also HEAD
  std::string path;    // "/mi": exactly this one, with any query
  // On the loop, once per request. Must not block; may keep `reply`.
  std::function<void(const HttpRequest& request, HttpReply reply)> handle;
};

struct HttpLimits {
  size_t max_head = 32 << 10;                         // bytes of request line and headers; more is answered 431
  size_t max_body = 64 << 10;                         // more is answered 413; who sends sixteen times that is cut off
  std::optional<Limit> limit_of_body = std::nullopt;  // which flag max_body is, to be named and counted
  size_t max_unsent = 128 << 20;  // bytes of responses on their way, of all connections; those beyond become 503
  // The one that has made us wait longest goes for a new one: of all, or of the peer that has too many (see
  // ConnectionCaps). Those whose request is being worked on stay, and if there are no others the new one is closed.
  size_t max_connections = 64;
  size_t max_connections_per_peer = 32;
  absl::Duration patience = absl::Seconds(30);  // to send a whole request, and to take a whole response
};

// Another path is answered 404, another method 405. Requests may be pipelined, connections are kept. A client that is
// slow, sends half a request or reads nothing costs its connection, and nobody else anything. All on the loop.
class HttpServer {
 public:
  HttpServer(BoundSocket listening, Loop& loop, std::vector<HttpRoute> routes, const HttpLimits& limits = {});
  ~HttpServer();

  // Takes no new connection, and lets go of `hold` when the requests that had come whole are answered, or after a
  // second.
  void Finish(std::shared_ptr<void> hold);

 private:
  friend class HttpReply;
  using Exchange = HttpReply::Exchange;
  struct Connection {
    int fd = -1;
    absl::Time since;                    // when it began to make us wait
    bool goes = false;                   // for another one: it is not counted any more
    std::shared_ptr<Exchange> exchange;  // the request at hand, from its first line to the end of its response
  };
  using Connections = std::list<Connection>;

  void Take(int fd);
  void Run();
  void RunSoon() { run_->Arm(loop_.Now()); }
  void Sweep();  // ends the connections that are to be ended
  void OnConnection(MHD_Connection* peer, void** context, bool begins);
  bool OnRequest(MHD_Connection* peer, Connection* connection, const char* path, const char* method, const char* body,
                 size_t* size);
  void Ask(const std::shared_ptr<Exchange>& exchange, absl::string_view method, absl::string_view path);
  bool Respond(MHD_Connection* peer, Exchange* exchange);
  void OnResponseSent(Connection* connection);
  void Await(Connection* connection);  // from now on it makes us wait for something new

  Loop& loop_;
  const std::vector<HttpRoute> routes_;
  const HttpLimits limits_;
  ConnectionCaps caps_;
  Connections connections_;  // the one that makes us wait longest first
  size_t unsent_ = 0;
  bool sweeping_ = false;  // the timer is armed
  bool finishing_ = false;
  std::shared_ptr<void> hold_;
  MHD_Daemon* daemon_ = nullptr;
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> run_;
  std::unique_ptr<Loop::Timer> sweep_;
  std::unique_ptr<Loop::Timer> linger_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_HTTP_HTTP_SERVER_H_
