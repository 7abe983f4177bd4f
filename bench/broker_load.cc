// Publishes through a broker to three subscribers, and prints one JSON object.
//
//   broker_load nats | redis | mqtt ADDRESS SECONDS
//
// Publisher and subscribers are one thread that speaks just enough of each protocol. The publisher writes 32 KiB at a
// time, and stays no more than kWindow events ahead of the slowest subscriber: brokers drop, or hang up on, a
// subscriber that falls far behind. What is lost nevertheless, the counts show.
//
// Formats: NATS client protocol (docs.nats.io), RESP (redis.io/docs/reference/protocol-spec), MQTT 3.1.1 (OASIS).
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "bench/arrivals.h"
#include "bench/bench_event.h"
#include "bench/measure.h"

namespace eventvirtual {
namespace {

constexpr size_t kSubscribers = 3;
constexpr uint64_t kWindow = 32768;      // events; 4 MiB: half of what Redis lets a subscriber fall behind for long
constexpr size_t kWrite = 32 << 10;      // bytes
constexpr size_t kReadSize = 256 << 10;  // bytes
constexpr int kQuietMillis = 1000;       // after which nothing more will come

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "broker_load: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// What a client says. Every answer that is waited for is known by its last bytes.
struct Dialogue {
  std::string hello, hello_answer;
  std::string subscribe, subscribe_answer;
  std::string before, after;  // around the event, in what publishes it
};

std::string Mqtt(char type, const std::string& body) {
  std::string packet(1, type);
  for (size_t rest = body.size(); rest > 0 || packet.size() == 1; rest /= 128) {
    packet.push_back(static_cast<char>(rest % 128 + (rest >= 128 ? 128 : 0)));
  }
  return packet + body;
}

Dialogue Speak(const std::string& protocol, const std::string& event) {
  const std::string size = std::to_string(event.size());
  if (protocol == "nats") {
    return {"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n",
            "PONG\r\n",
            "SUB bench 1\r\nPING\r\n",
            "PONG\r\n",
            "PUB bench " + size + "\r\n",
            "\r\n"};
  }
  if (protocol == "redis") {
    return {"PING\r\n",
            "+PONG\r\n",
            "SUBSCRIBE bench\r\n",
            ":1\r\n",
            "*3\r\n$7\r\nPUBLISH\r\n$5\r\nbench\r\n$" + size + "\r\n",
            "\r\n"};
  }
  if (protocol == "mqtt") {
    using std::string_literals::operator""s;
    // Protocol level 4, clean session, keep-alive 60 s, no client id; packet 1 asks for QoS 0.
    const std::string topic = "\0\5bench"s;
    const std::string publish = Mqtt(0x30, topic + event);
    return {Mqtt(0x10, "\0\4MQTT\4\2\0\x3c\0\0"s),
            "\x20\2\0\0"s,
            Mqtt('\x82', "\0\1"s + topic + "\0"s),
            "\x90\3\0\1\0"s,
            publish.substr(0, publish.size() - event.size()),
            ""};
  }
  errno = EINVAL;
  Die(protocol + ": give nats, redis or mqtt");
}

class Connection {
 public:
  explicit Connection(const std::string& address) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in peer = {};
    peer.sin_family = AF_INET;
    const size_t colon = address.rfind(':');
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &peer.sin_addr);
    peer.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
    if (connect(fd_, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)) != 0) Die(address);
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Ask(const std::string& question, const std::string& answer) {
    if (send(fd_, question.data(), question.size(), MSG_NOSIGNAL) < 0) Die("send");
    std::string got;
    while (got.size() < answer.size() || got.compare(got.size() - answer.size(), answer.size(), answer) != 0) {
      char bytes[4096];
      const ssize_t size = read(fd_, bytes, sizeof(bytes));
      if (size <= 0) Die("the broker refused; it said \"" + got + "\"");
      got.append(bytes, static_cast<size_t>(size));
    }
  }

  // Appends what is there. False: the broker hung up.
  bool Read(std::string* text) {
    static char buffer[kReadSize];
    const ssize_t size = recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (size > 0) text->append(buffer, static_cast<size_t>(size));
    return size > 0 || (size < 0 && errno == EAGAIN);
  }

  size_t Write(std::string_view data) {
    const ssize_t size = send(fd_, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (size < 0 && errno != EAGAIN) Die("send");
    return static_cast<size_t>(std::max<ssize_t>(size, 0));
  }

  int fd() const { return fd_; }

 private:
  const int fd_;
};

struct Subscriber {
  explicit Subscriber(const std::string& address) : connection(address) {}
  Connection connection;
  std::string text;  // an event whose end has not come
  Arrivals arrivals;
  bool open = true;

  void Read() {
    open = connection.Read(&text);
    NumberReader numbers(text);
    while (const std::optional<uint64_t> number = numbers.Next()) arrivals.Add(*number);
    text.erase(0, numbers.taken());
  }
};

// As many events as fit into one write; their numbers are put in place each time.
class Chunk {
 public:
  explicit Chunk(const Dialogue& dialogue) {
    const std::string one = dialogue.before + EventText(0, false) + dialogue.after;
    size_ = one.size();
    mark_ = one.find('#') + 1;
    for (count_ = 0; count_ * size_ < kWrite; ++count_) text_ += one;
  }
  void Fill(uint64_t first) {
    for (size_t i = 0; i < count_; ++i) WriteDigits(first + i, text_.data() + i * size_ + mark_);
  }
  uint64_t count() const { return count_; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  size_t size_ = 0, mark_ = 0, count_ = 0;
};

int Run(const std::string& protocol, const std::string& address, double duration) {
  const Dialogue dialogue = Speak(protocol, EventText(0, false));
  std::deque<Subscriber> subscribers;
  for (size_t i = 0; i < kSubscribers; ++i) {
    Connection& connection = subscribers.emplace_back(address).connection;
    connection.Ask(dialogue.hello, dialogue.hello_answer);
    connection.Ask(dialogue.subscribe, dialogue.subscribe_answer);
  }
  Connection publisher(address);
  publisher.Ask(dialogue.hello, dialogue.hello_answer);

  Chunk chunk(dialogue);
  uint64_t published = 0;  // the events of a chunk that is begun are published
  size_t written = chunk.text().size();
  const double begin = WallSeconds();
  double last = begin;
  for (bool over = false;;) {
    uint64_t least = published;
    for (const Subscriber& subscriber : subscribers) least = std::min(least, subscriber.arrivals.received());
    const bool whole = written == chunk.text().size();
    over = over || WallSeconds() >= begin + duration;
    if (over && whole && least == published) break;
    const bool may_write = !whole || (!over && published + chunk.count() - least <= kWindow);

    pollfd ready[1 + kSubscribers];
    ready[0] = {publisher.fd(), static_cast<short>(POLLIN | (may_write ? POLLOUT : 0)), 0};
    for (size_t i = 0; i < kSubscribers; ++i) {
      ready[1 + i] = {subscribers[i].open ? subscribers[i].connection.fd() : -1, POLLIN, 0};
    }
    if (poll(ready, 1 + kSubscribers, kQuietMillis) == 0) break;
    if (ready[0].revents & (POLLIN | POLLHUP | POLLERR)) {  // answers that say nothing new
      std::string answers;
      if (!publisher.Read(&answers)) Die("the broker hung up on the publisher");
    }
    if (ready[0].revents & POLLOUT) {
      if (whole) {
        chunk.Fill(published);
        published += chunk.count();
        written = 0;
      }
      written += publisher.Write(std::string_view(chunk.text()).substr(written));
    }
    for (size_t i = 0; i < kSubscribers; ++i) {
      if (ready[1 + i].revents == 0) continue;
      subscribers[i].Read();
      last = WallSeconds();
    }
  }
  uint64_t received = 0, duplicates = 0;
  for (const Subscriber& subscriber : subscribers) {
    received += subscriber.arrivals.received();
    duplicates += subscriber.arrivals.duplicates();
  }
  std::printf("{\"events\":%llu,\"refused\":0,\"seconds\":%.6f,\"received\":%llu,\"duplicates\":%llu}\n",
              static_cast<unsigned long long>(published), last - begin, static_cast<unsigned long long>(received),
              static_cast<unsigned long long>(duplicates));
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: broker_load nats|redis|mqtt ADDRESS SECONDS\n");
    return 2;
  }
  return eventvirtual::Run(argv[1], argv[2], std::atof(argv[3]));
}
