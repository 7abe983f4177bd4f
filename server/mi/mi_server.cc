#include "server/mi/mi_server.h"

#include <sys/socket.h>

#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "transports/api/completion.h"
#include "transports/io/run_on_loop.h"

namespace eventvirtual {
namespace {

constexpr size_t kMaxHttpAnswer = 64 << 20;   // some 700,000 subscriptions
constexpr size_t kMaxDatagramAnswer = 65507;  // what IPv4 carries
constexpr absl::Duration kLinger = absl::Seconds(1);
constexpr absl::string_view kDefaultPath = "/mi";
constexpr absl::string_view kUnreadable = "400 Parse_error";  // OpenSIPS' own words, and no JSON

std::string Forbidden(const absl::Status& status) {
  return MiErrorText({-32000, "Server error", std::string(status.message())}, "null");
}

bool IsPath(absl::string_view path) {
  return absl::c_all_of(path, [](char c) { return absl::ascii_isgraph(c) && c != '?' && c != '#' && c != '%'; });
}

}  // namespace

absl::StatusOr<std::unique_ptr<MiServer>> MiServer::Listen(const MiOptions& options, Loop& loop, Registry& registry,
                                                           Dispatcher& dispatcher, Journal* journal) {
  std::unique_ptr<MiServer> server(new MiServer(options, loop, registry, dispatcher, journal));
  for (const std::string& address : options.addresses) {
    if (absl::Status status = server->Open(address); !status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("cannot listen on \"", address, "\": ", std::string(status.message())));
    }
  }
  return server;
}

absl::Status MiServer::Open(const std::string& address) {
  absl::string_view rest = address;
  const bool unix = absl::ConsumePrefix(&rest, "unix:");
  const bool udp = !unix && absl::ConsumePrefix(&rest, "udp:");
  const bool http = !unix && !udp && absl::ConsumePrefix(&rest, "http:");
  if (!unix && !udp && !http)
    return absl::InvalidArgumentError("write http:host:port/path, udp:host:port or unix:/path");
  std::string path;
  if (http) {
    const size_t slash = std::min(rest.find('/'), rest.size());
    path = std::string(slash < rest.size() ? rest.substr(slash) : kDefaultPath);
    rest = rest.substr(0, slash);
    if (!IsPath(path)) return absl::InvalidArgumentError("the path holds a character that is not visible, or ? # %");
  }
  absl::StatusOr<BoundSocket> bound =
      unix ? BoundSocket::Unix(rest, SOCK_DGRAM, socket_group_)
           : BoundSocket::Internet(rest, http ? SOCK_STREAM : SOCK_DGRAM, BoundSocket::Reach::kLoopback);
  if (absl::IsPermissionDenied(bound.status())) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(bound.status().message()),
                     "; this interface asks nobody who they are: for other hosts, put a proxy that does in front"));
  }
  if (!bound.ok()) return bound.status();
  addresses_.push_back(absl::StrCat(unix ? "unix:" : udp ? "udp:" : "http:", bound->address(), path));

  RunOnLoop(loop_, [&](const std::shared_ptr<void>&) {
    if (http) {
      HttpLimits limits;
      limits.max_body = max_bytes_;
      limits.limit_of_body = Limit::kMiBytes;
      const auto handle = [this](const HttpRequest& request, HttpReply reply) {
        if (const absl::Status allowed = Allow({}, request.authorization); !allowed.ok()) {
          return std::move(reply).Send({403, "application/json", Forbidden(allowed)});
        }
        Answer(commands_.Handle(request.body, kMaxHttpAnswer, PrincipalOf({}, request.authorization)),
               [reply = std::move(reply)](std::string text) mutable {
                 const int status = text.empty() ? 204 : 200;
                 std::move(reply).Send({status, text.empty() ? "" : "application/json", std::move(text)});
               });
      };
      http_.push_back(std::make_unique<HttpServer>(*std::move(bound), loop_,
                                                   std::vector<HttpRoute>{{"POST", path, handle}}, limits));
    } else {
      const size_t place = datagrams_.size();
      datagrams_.push_back(std::make_unique<DatagramSocket>(*std::move(bound), loop_, max_bytes_, [this, place, unix] {
        ReadDatagrams(datagrams_[place].get(), unix ? Caller::Way::kUnix : Caller::Way::kLoopback);
      }));
      if (unix) datagrams_.back()->AskForUsers();
    }
  });
  return absl::OkStatus();
}

std::string MiServer::PrincipalOf(const Caller& caller, absl::string_view authorization) const {
  return AccessList::Describe(access_ == nullptr ? caller : access_->Identify(caller, authorization));
}

absl::Status MiServer::Allow(const Caller& caller, absl::string_view authorization) const {
  if (access_ == nullptr) return absl::OkStatus();
  return access_->Ask(caller, authorization, "management interface", "a management command", {Role::kOperator});
}

void MiServer::ReadDatagrams(DatagramSocket* socket, Caller::Way way) {
  socket->Receive([this, socket, way](const Datagram& datagram) {
    Caller caller;
    caller.way = way;
    caller.user = datagram.user;
    if (const absl::Status allowed = Allow(caller, ""); !allowed.ok()) {
      return socket->Answer(datagram, Forbidden(allowed));
    }
    MiAnswer answer;
    answer.unreadable = datagram.cut;
    if (datagram.cut) CountExceeded(Limit::kMiBytes);
    if (!datagram.cut) answer = commands_.Handle(datagram.bytes, kMaxDatagramAnswer, PrincipalOf(caller, ""));
    if (answer.unreadable) answer.text = std::string(kUnreadable);
    Answer(std::move(answer), [socket, to = datagram](std::string text) {
      if (!text.empty()) socket->Answer(to, text);
    });
  });
}

void MiServer::Answer(MiAnswer answer, Send send) {
  const Ref<Commit> commit = answer.commit;
  if (!answer.changed && !commit) return std::move(send)(std::move(answer.text));
  const uint64_t id = ++last_unsent_;
  unsent_[id] = {std::move(answer), std::move(send)};
  if (commit) {
    return commit->Then([this, box = mailbox_, id](const absl::Status& written) {
      box->Post([this, id, written = Fresh(written)] { OnSettled(id, written); });
    });
  }
  registry_.AfterSends([this, journal = journal_, box = mailbox_, id] {
    const auto settled = [this, box, id](const absl::Status& written) {
      box->Post([this, id, written = Fresh(written)] { OnSettled(id, written); });
    };
    if (journal == nullptr) return settled(absl::OkStatus());
    journal->AfterCommit(settled);
  });
}

void MiServer::OnSettled(uint64_t id, const absl::Status& written) {
  auto unsent = unsent_.extract(id);
  MiAnswer& answer = unsent.mapped().answer;
  if (!written.ok() && !answer.text.empty()) {
    const absl::string_view what =
        answer.commit ? "not taken: " : "done, but not written down, so a restart may undo it: ";
    answer.text = MiErrorText(
        {-32000, "Server error", absl::StrCat(what, written.message(), "; the same command may be given again")},
        answer.id);
  }
  std::move(unsent.mapped().send)(std::move(answer.text));
  if (unsent_.empty()) hold_.reset();
}

MiServer::~MiServer() { Stop(); }

void MiServer::Stop() {
  RunOnLoop(loop_, [this](const std::shared_ptr<void>& hold) {
    for (const std::unique_ptr<DatagramSocket>& socket : datagrams_) socket->Stop();
    for (const std::unique_ptr<HttpServer>& server : http_) server->Finish(hold);
    if (unsent_.empty()) return;
    hold_ = hold;
    linger_ = loop_.NewTimer([this] { hold_.reset(); });
    linger_->Arm(loop_.Now() + kLinger);
  });
  RunOnLoop(loop_, [this](const std::shared_ptr<void>&) {
    mailbox_->Leave();
    linger_.reset();
    unsent_.clear();
    http_.clear();
    datagrams_.clear();
  });
}

}  // namespace eventvirtual
