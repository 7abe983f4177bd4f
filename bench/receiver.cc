// Receives, counts and verifies what arrives: each event once, at each subscriber or at one of them.
//
//   receiver udp | unix:/path | tcp | file:/path | slow | deaf …
//
// `slow` is a tcp that takes 1 ms for each event, `deaf` one that accepts no connection.
// Prints `{"listening":[URI…]}` as soon as it can receive, ports chosen by the system. After SIGTERM it reads on until
// nothing has come for 300 ms, prints one JSON object, and exits. A tcp request with an "id" is answered.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/arrivals.h"
#include "bench/measure.h"

namespace eventvirtual {
namespace {

constexpr int kBatch = 64;
constexpr size_t kReadSize = 256 << 10;
constexpr int kReceiveBuffer = 64 << 20;
constexpr int kQuietMillis = 300;
constexpr useconds_t kSlowMicros = 1000;

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "receiver: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

struct Subscriber {
  std::string kind;
  std::string uri;
  uint64_t bytes = 0;
  Arrivals arrivals;
};

// One descriptor that is read: of a datagram socket, a listener, or a connection.
struct Source {
  int fd = -1;
  enum class Kind { kDatagram, kListener, kConnection } kind = Kind::kDatagram;
  Subscriber* subscriber = nullptr;
  std::string rest;  // of a connection: an event whose end has not come
};

class Receiver {
 public:
  void Open(const std::string& word) {
    subscribers_.push_back(std::make_unique<Subscriber>());
    Subscriber* const subscriber = subscribers_.back().get();
    const size_t colon = word.find(':');
    subscriber->kind = word.substr(0, colon);
    const std::string path = colon == std::string::npos ? "" : word.substr(colon + 1);
    if (subscriber->kind == "file") {
      subscriber->uri = "flatstore:" + path;
      return;
    }
    const bool deaf = subscriber->kind == "deaf";
    const bool stream = deaf || subscriber->kind == "tcp" || subscriber->kind == "slow";
    int fd = -1;
    if (subscriber->kind == "unix") {
      fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      sockaddr_un address = {};
      address.sun_family = AF_UNIX;
      std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
      if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Die(word);
      subscriber->uri = word;
    } else if (stream || subscriber->kind == "udp") {
      fd = socket(AF_INET, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      sockaddr_in address = {};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t length = sizeof(address);
      if (!stream && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof(kReceiveBuffer)) != 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof(kReceiveBuffer));
      }
      if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0) Die(word);
      if (stream && listen(fd, 16) != 0) Die(word);
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
      subscriber->uri = (stream ? "tcp:127.0.0.1:" : "udp:127.0.0.1:") + std::to_string(ntohs(address.sin_port));
    } else {
      errno = EINVAL;
      Die(word + ": give udp, unix:/path, tcp, file:/path, slow or deaf");
    }
    if (!deaf) Watch(fd, stream ? Source::Kind::kListener : Source::Kind::kDatagram, subscriber);
  }

  void Announce() const {
    std::string text;
    for (const auto& subscriber : subscribers_) text += (text.empty() ? "\"" : ",\"") + subscriber->uri + "\"";
    std::printf("{\"listening\":[%s]}\n", text.c_str());
    std::fflush(stdout);
  }

  void Run(const volatile sig_atomic_t& stop) {
    for (;;) {
      epoll_event ready[16];
      const int count = epoll_wait(epoll_, ready, 16, stop ? kQuietMillis : 1000);
      if (count == 0 && stop) break;
      if (count > 0) {
        last_ = WallSeconds();
        if (first_ == 0) first_ = last_;
      }
      for (int i = 0; i < count; ++i) Read(*static_cast<Source*>(ready[i].data.ptr));
    }
    for (const auto& subscriber : subscribers_) {
      if (subscriber->kind == "file") ReadFile(*subscriber);
    }
  }

  void Report() {
    uint64_t received = 0, duplicates = 0, bytes = 0;
    std::string each;
    for (const auto& subscriber : subscribers_) {
      received += subscriber->arrivals.received();
      duplicates += subscriber->arrivals.duplicates();
      bytes += subscriber->bytes;
      each += (each.empty() ? "" : ",") + std::to_string(subscriber->arrivals.received());
    }
    std::printf(
        "{\"received\":%llu,\"duplicates\":%llu,\"distinct\":%llu,\"bytes\":%llu,\"seconds\":%.6f,\"each\":[%s],"
        "\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f}\n",
        static_cast<unsigned long long>(received), static_cast<unsigned long long>(duplicates),
        static_cast<unsigned long long>(all_.distinct()), static_cast<unsigned long long>(bytes), last_ - first_,
        each.c_str(), latencies_.Quantile(0.5), latencies_.Quantile(0.99), latencies_.Quantile(0.999));
  }

 private:
  void Watch(int fd, Source::Kind kind, Subscriber* subscriber) {
    sources_.push_back(std::make_unique<Source>(Source{fd, kind, subscriber, ""}));
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.ptr = sources_.back().get();
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) Die("epoll_ctl");
  }

  // Counts the events that are whole in `text` and answers the requests among them; gives how much it took. A slow
  // subscriber takes one request.
  size_t Take(std::string_view text, Subscriber& subscriber, std::string* answers) {
    NumberReader numbers(text);
    const double now = WallSeconds();
    while (const std::optional<uint64_t> number = numbers.Next()) {
      subscriber.arrivals.Add(*number);
      all_.Add(*number);
      if (numbers.stamp() != 0) latencies_.Add(now - 1e-9 * static_cast<double>(numbers.stamp()));
      if (answers == nullptr) continue;
      const size_t id = numbers.before().find("{\"id\":");
      if (id == std::string_view::npos) continue;
      const std::string_view behind = numbers.before().substr(id + 6);
      answers->append("{\"jsonrpc\":\"2.0\",\"result\":\"OK\",\"id\":");
      answers->append(behind.substr(0, behind.find(',')));
      answers->push_back('}');
      if (subscriber.kind != "slow") continue;
      usleep(kSlowMicros);
      break;
    }
    return numbers.taken();
  }

  void Read(Source& source) {
    switch (source.kind) {
      case Source::Kind::kDatagram:
        return ReadDatagrams(source);
      case Source::Kind::kListener: {
        const int fd = accept4(source.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        const int on = 1;
        if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (fd >= 0) Watch(fd, Source::Kind::kConnection, source.subscriber);
        return;
      }
      case Source::Kind::kConnection:
        return ReadStream(source);
    }
  }

  void ReadDatagrams(Source& source) {
    static char buffers[kBatch][2048];
    mmsghdr headers[kBatch] = {};
    iovec pieces[kBatch];
    for (int i = 0; i < kBatch; ++i) {
      pieces[i] = {buffers[i], sizeof(buffers[i])};
      headers[i].msg_hdr.msg_iov = &pieces[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = recvmmsg(source.fd, headers, kBatch, MSG_DONTWAIT, nullptr);
    for (int i = 0; i < count; ++i) {
      source.subscriber->bytes += headers[i].msg_len;
      Take(std::string_view(buffers[i], headers[i].msg_len), *source.subscriber, nullptr);
    }
  }

  void ReadStream(Source& source) {
    static char buffer[kReadSize];
    const ssize_t size = read(source.fd, buffer, sizeof(buffer));
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      close(source.fd);
      source.fd = -1;
      return;
    }
    source.subscriber->bytes += static_cast<uint64_t>(size);
    std::string answers;
    std::string_view text(buffer, static_cast<size_t>(size));
    if (!source.rest.empty()) {
      source.rest.append(text);
      text = source.rest;
    }
    while (const size_t taken = Take(text, *source.subscriber, &answers)) {
      text.remove_prefix(taken);
      if (!Answer(source.fd, answers)) return;
      answers.clear();
    }
    source.rest = std::string(text);
  }

  // False: the peer has gone.
  static bool Answer(int fd, const std::string& answers) {
    for (size_t sent = 0; sent < answers.size();) {
      const ssize_t n = send(fd, answers.data() + sent, answers.size() - sent, MSG_NOSIGNAL);
      if (n >= 0) {
        sent += static_cast<size_t>(n);
      } else if (errno == EAGAIN) {
        pollfd wait = {fd, POLLOUT, 0};
        poll(&wait, 1, 1000);
      } else {
        return false;
      }
    }
    return true;
  }

  void ReadFile(Subscriber& subscriber) {
    const int fd = open(subscriber.uri.c_str() + std::strlen("flatstore:"), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    std::string rest;
    std::vector<char> buffer(kReadSize);
    for (ssize_t size; (size = read(fd, buffer.data(), buffer.size())) > 0;) {
      subscriber.bytes += static_cast<uint64_t>(size);
      rest.append(buffer.data(), static_cast<size_t>(size));
      rest.erase(0, Take(rest, subscriber, nullptr));
    }
    close(fd);
  }

  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  std::vector<std::unique_ptr<Subscriber>> subscribers_;
  std::vector<std::unique_ptr<Source>> sources_;
  Arrivals all_;  // at any subscriber
  Latencies latencies_;
  double first_ = 0, last_ = 0;  // when something came
};

volatile sig_atomic_t stop_asked = 0;

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  using namespace eventvirtual;  // NOLINT: this is the program
  struct sigaction action = {};
  action.sa_handler = [](int) { stop_asked = 1; };
  sigaction(SIGTERM, &action, nullptr);
  Receiver receiver;
  for (int i = 1; i < argc; ++i) receiver.Open(argv[i]);
  receiver.Announce();
  receiver.Run(stop_asked);
  receiver.Report();
  return 0;
}
