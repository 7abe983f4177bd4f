#include "server/ingest/ingest.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/ingest/opensips_event.h"
#include "transports/api/jsonrpc.h"
#include "transports/io/acceptor.h"
#include "transports/io/bound_socket.h"
#include "transports/io/connection_caps.h"
#include "transports/io/datagram_socket.h"
#include "transports/io/json_framer.h"
#include "transports/io/mailbox.h"
#include "transports/io/run_on_loop.h"

namespace eventvirtual {
namespace {

constexpr int kCallsPerTurn = 4;
constexpr size_t kReadSize = 64 << 10;
constexpr size_t kAnswersPerBatch = 64;
constexpr size_t kEventsPerLook = 64;     // at the clocks, and whether there is too much to do
constexpr size_t kMaxUnsent = 256 << 10;  // answers that a peer does not read: then nothing more of it is taken
constexpr size_t kMaxUncommitted = 4096;  // events of one peer that are on their way to the journal: likewise
// Of padded answers that leave in one call; and no more than one segment holds, see Connection::Write().
constexpr size_t kMaxRecord = 16 << 10;
constexpr absl::Duration kBurstMemory = absl::Milliseconds(20);
constexpr absl::Duration kLinger = absl::Seconds(1);  // for a peer to take its last answers

constexpr int kNobodySubscribed = 480;  // the codes of OpenSIPS' own management interface
constexpr int kNotRegistered = 404;
constexpr int kNotAccepted = -32000;
constexpr int kUnframed = -32700;

}  // namespace

void Ingest::Tallies::Book(const RaiseReceipt& receipt) {
  if (receipt.looped) return looped.Add(1);
  if (!receipt.known) return unknown.Add(1);
  if (receipt.shed) return refused.Add(1);
  if (receipt.matched + receipt.filtered == 0) return unsubscribed.Add(1);
  (receipt.matched == 0 || receipt.accepted > 0 ? accepted : refused).Add(1);
}

class Ingest::DatagramListener final : public Listener {
 public:
  DatagramListener(BoundSocket bound, Ingest& ingest, Tallies& tallies)
      : ingest_(ingest),
        tallies_(tallies),
        parser_(ingest.options_.event_param, ingest.options_.limits),
        socket_(std::move(bound), ingest.loop_, ingest.options_.max_object_bytes, [this] { Read(); }) {}

  void Finish(const std::shared_ptr<void>&) override { socket_.Stop(); }

 private:
  void Read() {
    const RaiseBatch batch;
    const absl::Time received = OpensipsEventParser::WallNow(), now = ingest_.dispatcher_.clock().Now();
    for (int call = 0; call < kCallsPerTurn; ++call) {
      const bool more = socket_.Receive([&](const Datagram& datagram) {
        tallies_.bytes.Add(datagram.bytes.size());
        OpensipsEvent event = parser_.Parse(datagram.bytes, received);
        if (datagram.cut) CountExceeded(Limit::kIngestBytes);
        if (!event.message) return tallies_.bad.Add(1);
        if (ingest_.rate_ != nullptr && !ingest_.rate_->Take(now).ok()) return tallies_.limited.Add(1);
        tallies_.Book(ingest_.dispatcher_.Raise(std::move(event.message), nullptr, now));
      });
      if (!more) return;
    }
  }

  Ingest& ingest_;
  Tallies& tallies_;
  OpensipsEventParser parser_;
  DatagramSocket socket_;
};

// One tcp peer.
class Ingest::Connection {
 public:
  Connection(int fd, Ingest& ingest, absl::AnyInvocable<void()> on_end)
      : fd_(fd),
        ingest_(ingest),
        on_end_(std::move(on_end)),
        framer_(ingest.options_.max_object_bytes),
        parser_(ingest.options_.event_param, ingest.options_.limits) {
    const int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    watch_ = ingest_.loop_.NewWatch(fd_, [this](Loop::Readiness ready) {
      if (ready.readable && !Read()) return on_end_();
      Proceed();
    });
    watch_->Want({.readable = true, .writable = false});
    linger_ = ingest_.loop_.NewTimer([this] { on_end_(); });
  }
  ~Connection() {
    mailbox_->Leave();
    watch_.reset();
    close(fd_);
  }

  // Takes nothing more, and ends when the peer has ended or is quiet and has the answers, or after kLinger: a peer that
  // sends would be told of a close() by a reset. May destroy this.
  void Finish(std::shared_ptr<void> hold) {
    int on_the_way = 0;
    ioctl(fd_, SIOCOUTQ, &on_the_way);
    if (!PeerSends(ingest_.loop_.Now()) && unsent_.empty() && uncommitted_ == 0 && on_the_way == 0) return on_end_();
    hold_ = std::move(hold);
    Close();
    Proceed();
  }

 private:
  Tallies& tallies() { return ingest_.tallies_[kTcp]; }

  struct Answer {
    std::string id;
    int code = 0;  // 0: result OK
    std::string error;
  };

  // Does what can be done now. May destroy this.
  void Proceed() {
    do {
      if (!Write()) return on_end_();
    } while (!closing_ && HasRoom() && TakeBatch());
    if (unsent_.empty() && uncommitted_ == 0 && !awaits_round_) {
      if (peer_ended_) return on_end_();
      // The peer ends next, when it has read all; a close() now would throw away what it has not.
      if (closing_) shutdown(fd_, SHUT_WR);
    }
    watch_->Want({.readable = !peer_ended_ && (closing_ || HasRoom()), .writable = !unsent_.empty()});
  }

  bool HasRoom() const { return !awaits_round_ && unsent_bytes_ < kMaxUnsent && uncommitted_ < kMaxUncommitted; }

  // More has come already, or came a moment ago.
  bool PeerSends(absl::Time now) const {
    int unread = 0;
    ioctl(fd_, FIONREAD, &unread);
    return unread > 0 || now - last_answer_ < kBurstMemory;
  }

  // From now on what the peer sends is thrown away.
  void Close() {
    closing_ = true;
    linger_->Arm(ingest_.loop_.Now() + kLinger);
  }

  // False: the connection broke.
  bool Read() {
    char bytes[kReadSize];
    const ssize_t got = recv(fd_, bytes, sizeof(bytes), 0);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (got == 0) peer_ended_ = true;
    if (closing_) return true;
    tallies().bytes.Add(static_cast<uint64_t>(got));
    framer_.Append(absl::string_view(bytes, got));
    return true;
  }

  // Raises what has come, up to the size of a batch, before any of it is answered: only then it is known whether a
  // request is alone. False: nothing is to be answered, and all was taken.
  bool TakeBatch() {
    std::vector<Answer> answers;
    {
      const RaiseBatch batch;
      absl::Time received, now;
      for (size_t count = 0; !closing_ && !awaits_round_ && answers.size() < kAnswersPerBatch; ++count) {
        if (count % kEventsPerLook == 0) {
          received = OpensipsEventParser::WallNow();
          now = ingest_.dispatcher_.clock().Now();
        }
        const absl::StatusOr<std::optional<absl::string_view>> object = framer_.Next();
        if (!object.ok()) {
          tallies().bad.Add(1);
          const bool too_large = framer_.begun();  // else it has ended where none had begun
          if (too_large) CountExceeded(Limit::kIngestBytes);
          answers.push_back({"null", kUnframed,
                             absl::StrCat("Parse error: ", std::string(object.status().message()),
                                          too_large ? " (--ingest_max_bytes)" : "")});
          Close();
        } else if (object->has_value()) {
          Take(**object, received, now, &answers);
          awaits_round_ =
              (count + 1) % kEventsPerLook == 0 && ingest_.options_.load != nullptr && ingest_.options_.load->Paces();
        } else {
          break;
        }
      }
    }
    if (awaits_round_) AwaitRound();  // behind the work that the cork kept back
    if (answers.empty()) return false;
    AppendAnswers(answers);
    return true;
  }

  // Until the loops have done what they were given nothing more is taken.
  void AwaitRound() {
    ingest_.options_.load->AfterRound([this, box = mailbox_] {
      box->Post([this] {
        awaits_round_ = false;
        Proceed();
      });
    });
  }

  void AppendAnswers(const std::vector<Answer>& answers) {
    const absl::Time now = ingest_.loop_.Now();
    const bool burst = answers.size() > 1 || uncommitted_ > 0 || framer_.begun() || !unsent_.empty() || PeerSends(now);
    last_answer_ = now;
    int segment = 0;
    socklen_t length = sizeof(segment);
    getsockopt(fd_, IPPROTO_TCP, TCP_MAXSEG, &segment, &length);
    max_record_ = std::min(kMaxRecord, static_cast<size_t>(segment));
    for (const Answer& answer : answers) AppendAnswer(answer, burst ? ingest_.options_.reply_padding : 0);
  }

  // Of an event that was to be written to the journal. Those of one commit are answered together.
  void OnCommitted(std::string id, const absl::Status& written) {
    Answer answer{std::move(id), 0, ""};
    if (!written.ok()) {
      answer.code = kNotAccepted;
      answer.error = std::string(written.message());
    }
    committed_.push_back(std::move(answer));
    if (committed_.size() > 1) return;
    mailbox_->Post([this] {
      std::vector<Answer> answers;
      answers.swap(committed_);
      uncommitted_ -= answers.size();
      AppendAnswers(answers);
      Proceed();
    });
  }

  void Take(absl::string_view text, absl::Time received, absl::Time now, std::vector<Answer>* answers) {
    OpensipsEvent event = parser_.Parse(text, received);
    if (!event.message) {
      tallies().bad.Add(1);
      if (!event.id.empty()) answers->push_back({std::move(event.id), event.error_code, std::move(event.error)});
      return;
    }
    if (ingest_.rate_ != nullptr) {
      if (const absl::Status status = ingest_.rate_->Take(now); !status.ok()) {
        tallies().limited.Add(1);
        if (!event.id.empty()) answers->push_back({std::move(event.id), kNotAccepted, std::string(status.message())});
        return;
      }
    }
    const MessageRef message = event.id.empty() ? nullptr : event.message;
    const RaiseReceipt receipt = ingest_.dispatcher_.Raise(std::move(event.message), nullptr, now);
    tallies().Book(receipt);
    if (event.id.empty()) return;
    Answer answer{std::move(event.id), 0, ""};
    if (!receipt.known) {
      answer.code = kNotRegistered;
      answer.error = "Event not registered";
    } else if (receipt.looped || receipt.shed) {
      answer.code = kNotAccepted;
      answer.error = std::string(receipt.refusal.message());
    } else if (receipt.matched + receipt.filtered == 0) {  // who filters it out has been asked, too
      answer.code = kNobodySubscribed;
      answer.error = absl::StrCat("Temporarily Unavailable: nobody is subscribed to ", message->name());
    } else if (receipt.matched > 0 && receipt.accepted + receipt.durable == 0) {
      answer.code = kNotAccepted;
      answer.error = std::string(receipt.refusal.message());
    } else if (receipt.commit) {
      ++uncommitted_;
      receipt.commit->Then([this, box = mailbox_, id = std::move(answer.id)](absl::Status written) mutable {
        box->Post([this, id = std::move(id), written = std::move(written)]() mutable {
          OnCommitted(std::move(id), written);
        });
      });
      return;
    }
    answers->push_back(std::move(answer));
  }

  // Spaces inside the object, before its closing brace, bring it to `size` bytes.
  void AppendAnswer(const Answer& answer, size_t size) {
    std::string text = R"({"jsonrpc":"2.0",)";
    if (answer.code == 0) {
      text += R"("result":"OK")";
    } else {
      absl::StrAppend(&text, R"("error":{"code":)", answer.code, R"(,"message":)");
      AppendJsonString(answer.error, &text);
      text += '}';
    }
    absl::StrAppend(&text, ",\"id\":", answer.id);
    if (text.size() + 1 < size) text.append(size - text.size() - 1, ' ');
    text += '}';
    unsent_bytes_ += text.size();
    const bool padded = text.size() == size;
    if (padded && joins_last_ && sent_ == 0 && !unsent_.empty() && unsent_.back().size() + size <= max_record_) {
      unsent_.back() += text;
    } else {
      unsent_.push_back(std::move(text));
    }
    joins_last_ = padded;
  }

  // False: the connection broke. Each record leaves with MSG_EOR: the kernel then neither glues it to another nor, as
  // long as one segment holds it, cuts it: a segment is sent whole or, where the peer's window is too small for it, not
  // yet. So all the peer can read while we write is whole answers. A segment of the loopback interface holds half of
  // the largest window that the peer has offered; of a network it holds less than one answer, which then travels alone.
  bool Write() {
    while (!unsent_.empty()) {
      const std::string& answer = unsent_.front();
      const ssize_t sent = send(fd_, answer.data() + sent_, answer.size() - sent_, MSG_NOSIGNAL | MSG_EOR);
      if (sent < 0) {
        if (errno == EINTR) continue;
        return errno == EAGAIN || errno == EWOULDBLOCK;
      }
      sent_ += sent;
      if (sent_ < answer.size()) continue;
      unsent_bytes_ -= answer.size();
      unsent_.pop_front();
      sent_ = 0;
    }
    return true;
  }

  const int fd_;
  Ingest& ingest_;
  absl::AnyInvocable<void()> on_end_;  // destroys this
  JsonFramer framer_;
  OpensipsEventParser parser_;
  std::deque<std::string> unsent_;  // records: one answer each, or several padded ones
  size_t max_record_ = 0;           // bytes of several answers
  bool joins_last_ = false;         // the last record holds padded answers, and may get another
  size_t unsent_bytes_ = 0;
  size_t sent_ = 0;          // bytes of the first of them
  bool closing_ = false;     // the stream cannot be framed any more, or we stop
  bool peer_ended_ = false;  // it sends nothing more, and may still read
  absl::Time last_answer_ = absl::InfinitePast();
  bool awaits_round_ = false;      // see Load::AfterRound()
  size_t uncommitted_ = 0;         // requests whose answer waits for the journal
  std::vector<Answer> committed_;  // those it has just come for
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>(ingest_.loop_);
  std::shared_ptr<void> hold_;  // Stop() waits for it
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> linger_;
};

class Ingest::StreamListener final : public Listener {
 public:
  StreamListener(BoundSocket bound, Ingest& ingest)
      : ingest_(ingest),
        caps_(ingest.options_.max_connections, ingest.options_.max_connections_per_peer),
        acceptor_(
            std::move(bound), ingest.loop_, [this](int fd) { Take(fd); },
            [this] { ingest_.tallies_[kTcp].turned_away.Add(1); }) {}

  void Finish(const std::shared_ptr<void>& hold) override {
    acceptor_.Stop();
    for (auto next = connections_.begin(); next != connections_.end();) (next++)->second->Finish(hold);
  }

 private:
  void Take(int fd) {
    if (caps_.Admit(fd) != ConnectionCaps::Verdict::kAdmitted) {
      ingest_.tallies_[kTcp].turned_away.Add(1);
      close(fd);
      return;
    }
    ingest_.tallies_[kTcp].connections.Add(1);
    connections_[fd] = std::make_unique<Connection>(fd, ingest_, [this, fd] {
      caps_.Closed(fd);
      connections_.erase(fd);
    });
  }

  Ingest& ingest_;
  std::map<int, std::unique_ptr<Connection>> connections_;
  ConnectionCaps caps_;
  Acceptor acceptor_;
};

Ingest::Ingest(const IngestOptions& options, Loop& loop, Dispatcher& dispatcher)
    : options_(options),
      loop_(loop),
      dispatcher_(dispatcher),
      rate_(options.rate == 0
                ? nullptr
                : std::make_unique<Rate>(Limit::kIngestRate, "ingest", options.rate, options.rate_burst)) {}

absl::StatusOr<std::unique_ptr<Ingest>> Ingest::Listen(const IngestOptions& options, Loop& loop,
                                                       Dispatcher& dispatcher) {
  std::unique_ptr<Ingest> ingest(new Ingest(options, loop, dispatcher));
  for (const std::string& address : options.addresses) {
    absl::string_view rest = address;
    const bool udp = absl::ConsumePrefix(&rest, "udp:");
    const bool tcp = !udp && absl::ConsumePrefix(&rest, "tcp:");
    const bool unix = !udp && !tcp && absl::ConsumePrefix(&rest, "unix:");
    absl::StatusOr<BoundSocket> bound = absl::InvalidArgumentError("write udp:host:port, tcp:host:port or unix:/path");
    const BoundSocket::Reach reach = options.off_host ? BoundSocket::Reach::kAny : BoundSocket::Reach::kLoopback;
    if (udp) bound = BoundSocket::Internet(rest, SOCK_DGRAM, reach);
    if (tcp) bound = BoundSocket::Internet(rest, SOCK_STREAM, reach);
    if (unix) bound = BoundSocket::Unix(rest, SOCK_DGRAM, options.socket_group);
    if (absl::IsPermissionDenied(bound.status())) {
      bound = absl::InvalidArgumentError(absl::StrCat(
          std::string(bound.status().message()),
          ", and OpenSIPS' events come in the clear, from whoever sends them: run this service next to OpenSIPS, or "
          "bring "
          "them here through a tunnel; --ingest_off_host listens all the same, in a network that you trust"));
    }
    if (!bound.ok()) {
      return absl::Status(bound.status().code(),
                          absl::StrCat("cannot listen on \"", address, "\": ", std::string(bound.status().message())));
    }
    ingest->addresses_.push_back(absl::StrCat(udp ? "udp:" : tcp ? "tcp:" : "unix:", bound->address()));
    Tallies& tallies = ingest->tallies_[udp ? kUdp : kUnix];
    RunOnLoop(loop, [&ingest, &bound, &tallies, tcp](const std::shared_ptr<void>&) {
      if (tcp) {
        ingest->listeners_.push_back(std::make_unique<StreamListener>(*std::move(bound), *ingest));
      } else {
        ingest->listeners_.push_back(std::make_unique<DatagramListener>(*std::move(bound), *ingest, tallies));
      }
    });
  }
  return ingest;
}

absl::string_view Ingest::NameOf(Kind kind) {
  static constexpr absl::string_view kNames[kKinds] = {"udp", "unix", "tcp"};
  return kNames[kind];
}

IngestCounts Ingest::counts(Kind kind) const {
  const Tallies& tallies = tallies_[kind];
  return {tallies.bytes.Read(),       tallies.accepted.Read(),   tallies.unsubscribed.Read(), tallies.unknown.Read(),
          tallies.looped.Read(),      tallies.refused.Read(),    tallies.limited.Read(),      tallies.bad.Read(),
          tallies.connections.Read(), tallies.turned_away.Read()};
}

Ingest::~Ingest() { Stop(); }

void Ingest::Stop() {
  RunOnLoop(loop_, [this](const std::shared_ptr<void>& hold) {
    for (const std::unique_ptr<Listener>& listener : listeners_) listener->Finish(hold);
  });
  RunOnLoop(loop_, [this](const std::shared_ptr<void>&) { listeners_.clear(); });
}

}  // namespace eventvirtual
