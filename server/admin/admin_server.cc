#include "server/admin/admin_server.h"

#include <sys/socket.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/io/bound_socket.h"
#include "transports/io/run_on_loop.h"

namespace eventvirtual {
namespace {

constexpr char kPlainText[] = "text/plain; charset=utf-8";

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Listen(const std::vector<std::string>& addresses, Loop& loop,
                                                                 std::function<Readiness()> ready,
                                                                 std::vector<HttpRoute> routes) {
  routes.push_back({"GET", "/healthz", [](const HttpRequest&, HttpReply reply) {
                      std::move(reply).Send({200, kPlainText, "alive\n"});
                    }});
  routes.push_back({"GET", "/readyz", [ready = std::move(ready)](const HttpRequest&, HttpReply reply) {
                      const Readiness now = ready();
                      std::string text = now.serving ? "ready\n" : "not serving\n";
                      if (!now.trouble.ok()) absl::StrAppend(&text, now.trouble.message(), "\n");
                      std::move(reply).Send({now.serving ? 200 : 503, kPlainText, std::move(text)});
                    }});
  std::unique_ptr<AdminServer> server(new AdminServer(loop));
  for (const std::string& address : addresses) {
    absl::StatusOr<BoundSocket> bound = BoundSocket::Internet(address, SOCK_STREAM, BoundSocket::Reach::kLoopback);
    if (absl::IsPermissionDenied(bound.status())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot listen on \"", address, "\": ", std::string(bound.status().message()),
          "; nobody is asked who they are here: for other hosts, put a proxy with TLS that does in front"));
    }
    if (!bound.ok()) {
      return absl::Status(
          bound.status().code(),
          absl::StrCat("cannot listen on \"", address, "\": ", std::string(bound.status().message()),
                       "; write host:port with a numeric host, like 127.0.0.1:7063, and a port that is free"));
    }
    server->addresses_.push_back(bound->address());
    RunOnLoop(loop, [&](const std::shared_ptr<void>&) {
      server->servers_.push_back(std::make_unique<HttpServer>(*std::move(bound), loop, routes));
    });
  }
  return server;
}

AdminServer::~AdminServer() { Stop(); }

void AdminServer::Stop() {
  RunOnLoop(loop_, [this](const std::shared_ptr<void>& hold) {
    for (const std::unique_ptr<HttpServer>& server : servers_) server->Finish(hold);
  });
  RunOnLoop(loop_, [this](const std::shared_ptr<void>&) { servers_.clear(); });
}

}  // namespace eventvirtual
