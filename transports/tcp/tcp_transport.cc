#include "transports/tcp/tcp_transport.h"

#include <errno.h>
#include <simdjson.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "transports/api/encoding.h"
#include "transports/api/jsonrpc.h"
#include "transports/io/errno_text.h"
#include "transports/io/json_framer.h"
#include "transports/io/stream_connector.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kSchemes[] = {"tcp"};
constexpr absl::Duration kAttemptTimeout = absl::Seconds(1);
constexpr absl::Duration kConnectTimeout = absl::Seconds(1);
constexpr int kWindow = 1024;           // of events whose writing is all there is to know: one send may carry so many
constexpr int kReliableWindow = 256;    // requests without their reply
constexpr size_t kMaxReply = 64 << 10;  // bytes; replies are padded to 4096 by some peers
constexpr size_t kReadSize = 16 << 10;
constexpr int kReadsAtOnce = 16;  // a peer that floods us gets this many of them, then the loop goes on
constexpr size_t kMaxErrorText = 200;

struct Peer {
  HostPort address;
  std::string method;       // replaces the event name in "method"
  std::string event_param;  // carries the event name when there are parameters
  bool reliable = false;
  Encoding encoding = Encoding::kJsonRpc;
  absl::Duration timeout = kAttemptTimeout;
};

absl::StatusOr<Peer> ParsePeer(const Uri& uri) {
  Peer peer;
  const std::pair<std::string, std::string> parts = absl::StrSplit(uri.body, absl::MaxSplits('/', 1));
  absl::StatusOr<HostPort> address = ParseHostPort(parts.first);
  if (!address.ok()) return address.status();
  peer.address = *std::move(address);
  peer.method = parts.second;
  if (peer.method.find('/') != std::string::npos) {
    return absl::InvalidArgumentError("the method behind host:port/ must not hold another '/'");
  }
  QueryReader query(uri);
  peer.reliable = query.TakeBool("reliable", false);
  peer.timeout = query.TakeDuration("timeout", kAttemptTimeout, absl::Milliseconds(1), absl::Minutes(5));
  peer.event_param = query.TakeString("event_param", "");
  peer.encoding = TakeEncoding(query, /*has_headers=*/false);
  if (absl::Status status = query.Done(); !status.ok()) return status;
  if (peer.encoding == Encoding::kProtobuf) {
    return absl::InvalidArgumentError(
        "option \"encoding\": protobuf has no end that a stream of bytes could show; take one of JSON, or a datagram");
  }
  const bool jsonrpc = peer.encoding == Encoding::kJsonRpc || peer.encoding == Encoding::kJsonRpcHops;
  if (!jsonrpc && (peer.reliable || !peer.method.empty() || !peer.event_param.empty())) {
    return absl::InvalidArgumentError(
        "a method, \"reliable\" and \"event_param\" are JSON-RPC's; leave \"encoding\" out, or them");
  }
  if (!simdjson::validate_utf8(peer.event_param)) {  // it goes into JSON
    return absl::InvalidArgumentError("option \"event_param\" is not UTF-8");
  }
  return peer;
}

// The text of an error goes into protobuf strings: it is cut between two characters of UTF-8, never inside one.
std::string CutErrorText(std::string_view text) {
  size_t size = std::min(text.size(), kMaxErrorText);
  while (size < text.size() && size > 0 && (text[size] & 0xc0) == 0x80) --size;
  return std::string(text.substr(0, size));
}

class TcpLink final : public Link {
 public:
  TcpLink(Peer peer, std::string name, Loop& loop, Host& host)
      : peer_(std::move(peer)), name_(std::move(name)), loop_(loop), host_(host), framer_(kMaxReply) {
    connector_ = std::make_unique<StreamConnector>(loop, peer_.address, kConnectTimeout,
                                                   [this](absl::StatusOr<int> fd) { OnConnected(std::move(fd)); });
  }

  ~TcpLink() override {
    *alive_ = false;
    connector_.reset();
    watch_.reset();
    if (fd_ >= 0) close(fd_);
  }

  void Send(absl::Span<Parcel> parcels) override {
    const bool shared_text = !peer_.reliable && peer_.method.empty() && peer_.event_param.empty();
    const bool hops = peer_.encoding == Encoding::kJsonRpcHops;
    ends_.clear();
    for (Parcel& parcel : parcels) {
      if (!closed_.ok()) break;
      if (shared_text) {
        const absl::string_view text = parcel.message->encoded(peer_.encoding);
        out_.append(text.data(), text.size());
      } else {
        const std::string id = peer_.reliable ? absl::StrCat(++last_id_) : "";
        AppendJsonRpc(*parcel.message, {id, peer_.method, peer_.event_param, hops}, &out_);
      }
      if (peer_.reliable) {
        unanswered_.emplace(last_id_, std::move(parcel.done));
      } else {
        ends_.push_back(written_ + out_.size() - out_start_);
      }
    }
    // A peer that has gone is noticed before the bytes go into its grave.
    if (closed_.ok()) Read();
    if (closed_.ok()) Write();
    if (peer_.reliable && closed_.ok()) return;
    // Mostly all have left, and none has to wait.
    for (size_t i = 0; i < parcels.size(); ++i) {
      Completion& done = parcels[i].done;
      if (!closed_.ok()) {
        std::move(done).Finish(closed_);  // of requests, those that are not waited for
      } else if (ends_[i] <= written_) {
        std::move(done).Finish(absl::OkStatus());
      } else {
        unwritten_.push_back({ends_[i], std::move(done)});
      }
    }
  }

 private:
  struct Unwritten {
    uint64_t end;  // of its text, counted from the first byte of the connection
    Completion done;
  };

  void OnConnected(absl::StatusOr<int> fd) {
    if (!fd.ok()) return Close(fd.status());
    fd_ = *fd;
    watch_ = loop_.NewWatch(fd_, [this](Loop::Readiness ready) {
      if (ready.readable) Read();
      if (ready.writable && closed_.ok()) Write();
    });
    watch_->Want({.readable = true, .writable = false});
    host_.OnReady(peer_.reliable ? kReliableWindow : kWindow);
  }

  void Close(absl::Status why) {
    if (!closed_.ok()) return;
    closed_ = why;
    watch_.reset();
    std::deque<Unwritten> unwritten;
    unwritten.swap(unwritten_);
    absl::flat_hash_map<uint64_t, Completion> unanswered;
    unanswered.swap(unanswered_);
    for (Unwritten& entry : unwritten) std::move(entry.done).Finish(why);
    for (auto& [id, done] : unanswered) std::move(done).Finish(why);
    loop_.Post([this, alive = alive_, why] {
      if (*alive) host_.OnClosed(why);
    });
  }

  void Write() {
    while (out_start_ < out_.size()) {
      const ssize_t sent = send(fd_, out_.data() + out_start_, out_.size() - out_start_, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        return Close(absl::UnavailableError(absl::StrCat(name_, ": ", ErrnoText(errno))));
      }
      out_start_ += sent;
      written_ += sent;
    }
    if (out_start_ == out_.size()) {
      out_.clear();
      out_start_ = 0;
    } else if (out_start_ > out_.size() / 2) {
      out_.erase(0, out_start_);
      out_start_ = 0;
    }
    watch_->Want({.readable = true, .writable = !out_.empty()});
    while (!unwritten_.empty() && unwritten_.front().end <= written_) {
      Completion done = std::move(unwritten_.front().done);
      unwritten_.pop_front();
      std::move(done).Finish(absl::OkStatus());
    }
  }

  void Read() {
    char bytes[kReadSize];
    for (int reads = 0; reads < kReadsAtOnce; ++reads) {
      const ssize_t got = recv(fd_, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (got < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return;
        return Close(absl::UnavailableError(absl::StrCat(name_, ": ", ErrnoText(errno))));
      }
      if (got == 0) return Close(absl::UnavailableError(absl::StrCat(name_, ": the peer closed the connection")));
      if (peer_.reliable) {
        framer_.Append(absl::string_view(bytes, got));
        if (!TakeReplies()) return;
      }
      // Without replies nothing that comes is of interest, but what may come behind it: the end.
    }
  }

  bool TakeReplies() {
    while (true) {
      absl::StatusOr<std::optional<absl::string_view>> reply = framer_.Next();
      if (!reply.ok()) {
        Close(absl::UnavailableError(absl::StrCat(name_, ": bad reply: ", std::string(reply.status().message()))));
        return false;
      }
      if (!reply->has_value()) return true;
      TakeReply(**reply);
    }
  }

  // A reply with an id we do not wait for is dropped: its attempt has timed out, or the peer is confused.
  void TakeReply(absl::string_view text) {
    simdjson::dom::element reply;
    uint64_t id = 0;
    if (parser_.parse(text.data(), text.size()).get(reply) != simdjson::SUCCESS) return;
    if (reply["id"].get(id) != simdjson::SUCCESS) return;
    const auto found = unanswered_.find(id);
    if (found == unanswered_.end()) return;
    Completion done = std::move(found->second);
    unanswered_.erase(found);

    simdjson::dom::element error;
    if (reply["error"].get(error) != simdjson::SUCCESS || error.is_null()) {
      return std::move(done).Finish(absl::OkStatus());
    }
    int64_t code = 0;
    std::string_view message;
    std::string words;
    if (error["message"].get(message) == simdjson::SUCCESS || error.get(message) == simdjson::SUCCESS) {
      words = CutErrorText(message);
      if (error["code"].get(code) == simdjson::SUCCESS) words.insert(0, absl::StrCat(code, ": "));
    } else {
      words = CutErrorText(simdjson::minify(error));  // not as JSON-RPC wants it: as it came
    }
    std::move(done).Finish(absl::UnavailableError(absl::StrCat(name_, ": the receiver answered with error ", words)));
  }

  const Peer peer_;
  const std::string name_;
  Loop& loop_;
  Host& host_;
  std::unique_ptr<StreamConnector> connector_;
  int fd_ = -1;
  std::unique_ptr<Loop::Watch> watch_;
  absl::Status closed_;

  std::string out_;  // what stands before out_start_ has been written
  size_t out_start_ = 0;
  uint64_t written_ = 0;  // bytes since the connection began
  std::deque<Unwritten> unwritten_;
  std::vector<uint64_t> ends_;  // scratch of Send(): where each text ends

  uint64_t last_id_ = 0;
  absl::flat_hash_map<uint64_t, Completion> unanswered_;
  JsonFramer framer_;
  simdjson::dom::parser parser_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted tasks look at it first
};

class TcpTransport final : public Transport {
 public:
  absl::Span<const absl::string_view> schemes() const override { return kSchemes; }
  absl::string_view syntax() const override {
    return "tcp:host:port[/method][?reliable=1&timeout=1s&event_param=NAME&encoding=jsonrpc]";
  }
  absl::string_view description() const override {
    return "JSON over one connection. Success: written to the socket, or with reliable=1 answered without an "
           "error.";
  }
  AckLevel ack_level() const override { return AckLevel::kWritten; }

  absl::StatusOr<Target> Canonicalize(const Uri& uri) const override {
    const absl::StatusOr<Peer> peer = ParsePeer(uri);
    if (!peer.ok()) return peer.status();
    QueryWriter options;
    if (peer->reliable) options.Add("reliable", "1");
    if (peer->timeout != kAttemptTimeout) options.Add("timeout", absl::FormatDuration(peer->timeout));
    if (!peer->event_param.empty()) options.Add("event_param", peer->event_param);
    AddEncoding(peer->encoding, &options);
    Target target;
    target.canonical =
        absl::StrCat("tcp:", peer->address.ToString(), peer->method.empty() ? "" : "/", peer->method, options.text());
    target.masked = target.canonical;
    target.ack_level = peer->reliable ? AckLevel::kConfirmed : AckLevel::kWritten;
    target.attempt_timeout = peer->timeout;
    target.hosts = {peer->address};
    return target;
  }

  std::unique_ptr<Link> Connect(const Target& target, Loop& loop, Link::Host& host) override {
    return std::make_unique<TcpLink>(AddressOf(target, &ParsePeer), target.masked, loop, host);
  }
};

}  // namespace

std::unique_ptr<Transport> MakeTcpTransport() { return std::make_unique<TcpTransport>(); }

}  // namespace eventvirtual
