// What a transport cannot beat: a loop that sends the same bytes with nothing around it. Also feeds our ingest.
//
//   bare_loop KIND ADDRESS SECONDS [vary] [rate=EVENTS_PER_SECOND]
//
//   send      one send() per event on a connected UDP socket         ADDRESS 127.0.0.1:port
//   segment   64 events per UDP_SEGMENT call                         127.0.0.1:port
//   unix      one send() per event on a connected datagram socket    /path
//   tcp       16 KiB of events per write                             127.0.0.1:port
//   request   as tcp, 64 requests outstanding, each answered         127.0.0.1:port
//   file      64 KiB of events per write, appended                   /path
//   pingpong  one request outstanding: a round trip                  127.0.0.1:port
//
// Sends for SECONDS, as fast as the receiver lets it or at a rate, and prints one JSON object.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/bench_event.h"
#include "bench/measure.h"

namespace eventvirtual {
namespace {

constexpr size_t kRun = 64;
constexpr size_t kTcpWrite = 16 << 10;
constexpr size_t kFileWrite = 64 << 10;
constexpr uint64_t kOutstanding = 64;
constexpr int kLookAtClock = 64;  // events between two looks

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "bare_loop: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

int Connect(const std::string& address, int type) {
  int fd;
  if (address[0] == '/') {
    sockaddr_un peer = {};
    peer.sun_family = AF_UNIX;
    std::strncpy(peer.sun_path, address.c_str(), sizeof(peer.sun_path) - 1);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)) != 0) Die(address);
  } else {
    sockaddr_in peer = {};
    peer.sin_family = AF_INET;
    const size_t colon = address.rfind(':');
    inet_pton(AF_INET, address.substr(0, colon).c_str(), &peer.sin_addr);
    peer.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
    fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&peer), sizeof(peer)) != 0) Die(address);
    const int on = 1;
    if (type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  return fd;
}

// The event's text with its number in place: 16 texts are made once, so that a loop pays for its sends alone.
class Texts {
 public:
  Texts(const std::string& kind, bool vary) : request_(kind == "request" || kind == "pingpong") {
    for (uint64_t i = 0; i < 16; ++i) {
      texts_.push_back(kind == "file" ? EventLine(i, vary) : EventText(i, vary));
      if (request_) texts_.back().insert(1, "\"id\":" + std::string(kDigits, '1') + ",");
      marks_.push_back(texts_.back().find('#') + 1);
    }
    std::memset(digits_, '0', kDigits);
  }
  const std::string& Next() {
    std::string& text = texts_[number_ % 16];
    std::memcpy(text.data() + marks_[number_ % 16], digits_, kDigits);
    if (request_) {
      std::memcpy(text.data() + 6, digits_, kDigits);
      text[6] = '1';  // a JSON number begins with no 0
    }
    ++number_;
    for (size_t i = kDigits; ++digits_[--i] > '9';) digits_[i] = '0';
    return text;
  }
  uint64_t count() const { return number_; }

 private:
  std::vector<std::string> texts_;
  std::vector<size_t> marks_;
  const bool request_;
  uint64_t number_ = 0;
  char digits_[kDigits];  // of number_
};

double rate = 0;  // events per second; 0: as fast as it goes

// Whether the time is over; looks at the clock once in a while, and sleeps there while the rate is exceeded.
class Until {
 public:
  explicit Until(double seconds) : begin_(WallSeconds()), end_(begin_ + seconds) {}
  bool Over(int events = 1) {
    left_ -= events;
    if (left_ > 0 || over_) return over_;
    left_ = kLookAtClock;
    const double now = WallSeconds();
    count_ += kLookAtClock;
    const double ahead = rate == 0 ? 0 : begin_ + static_cast<double>(count_) / rate - now;
    if (ahead > 0) usleep(static_cast<useconds_t>(ahead * 1e6));
    return over_ = now >= end_;
  }

 private:
  const double begin_;
  const double end_;
  uint64_t count_ = 0;
  bool over_ = false;
  int left_ = kLookAtClock;
};

void WriteAll(int fd, const std::string& data) {
  for (size_t done = 0; done < data.size();) {
    const ssize_t n = write(fd, data.data() + done, data.size() - done);
    if (n < 0) Die("write");
    done += static_cast<size_t>(n);
  }
}

void SendEach(int fd, Texts& texts, double seconds) {
  for (Until until(seconds); !until.Over();) {
    const std::string& text = texts.Next();
    while (send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      if (errno != EAGAIN && errno != ENOBUFS) Die("send");
      pollfd wait = {fd, POLLOUT, 0};
      poll(&wait, 1, 1000);
    }
  }
}

void SendSegments(int fd, Texts& texts, double seconds) {
  std::string run;
  for (Until until(seconds); !until.Over(kRun);) {
    run.clear();
    size_t size = 0;
    for (size_t i = 0; i < kRun; ++i) {
      const std::string& text = texts.Next();
      size = text.size();
      run += text;
    }
    iovec piece = {run.data(), run.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))] = {};
    msghdr header = {};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* const option = CMSG_FIRSTHDR(&header);
    option->cmsg_level = IPPROTO_UDP;
    option->cmsg_type = UDP_SEGMENT;
    option->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    const auto segment = static_cast<uint16_t>(size);
    std::memcpy(CMSG_DATA(option), &segment, sizeof(segment));
    if (sendmsg(fd, &header, MSG_NOSIGNAL) < 0) Die("sendmsg with UDP_SEGMENT");
  }
}

void SendCoalesced(int fd, Texts& texts, double seconds, size_t write_size) {
  std::string buffer;
  for (Until until(seconds); !until.Over();) {
    buffer += texts.Next();
    if (buffer.size() < write_size) continue;
    WriteAll(fd, buffer);
    buffer.clear();
  }
  WriteAll(fd, buffer);
}

// Keeps `outstanding` requests open. An answer is counted by its "id", whose digits no padding can hold.
void Request(int fd, Texts& texts, double seconds, uint64_t outstanding, Latencies* latencies) {
  std::string buffer;
  std::vector<char> answers(256 << 10);
  uint64_t answered = 0;
  const std::string kMark = "\"id\":";
  size_t matched = 0;  // bytes of kMark at the end of the last read
  double begin = 0;
  for (Until until(seconds);;) {
    const bool over = until.Over(outstanding == 1 ? kLookAtClock : 1);
    if (over && answered == texts.count()) return;
    buffer.clear();
    while (!over && texts.count() - answered < outstanding) buffer += texts.Next();
    if (!buffer.empty()) {
      begin = WallSeconds();
      WriteAll(fd, buffer);
    }
    const ssize_t size = read(fd, answers.data(), answers.size());
    if (size <= 0) Die("the answers ended");
    const uint64_t before = answered;
    for (ssize_t i = 0; i < size; ++i) {
      if (matched == 0) {  // the padding is long
        const void* const mark = std::memchr(answers.data() + i, '"', static_cast<size_t>(size - i));
        if (mark == nullptr) break;
        i = static_cast<const char*>(mark) - answers.data();
      }
      if (answers[i] != kMark[matched]) {
        matched = answers[i] == '"' ? 1 : 0;
      } else if (++matched == kMark.size()) {
        ++answered;
        matched = 0;
      }
    }
    if (outstanding == 1 && answered > before) latencies->Add(WallSeconds() - begin);
  }
}

int Run(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr,
                 "usage: bare_loop send|segment|unix|tcp|request|file|pingpong ADDRESS SECONDS [vary] [rate=N]\n");
    return 2;
  }
  const std::string kind = argv[1], address = argv[2];
  const double seconds = std::atof(argv[3]);
  bool vary = false;
  for (int i = 4; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "vary") {
      vary = true;
    } else if (word.rfind("rate=", 0) == 0) {
      rate = std::atof(word.c_str() + 5);
    } else {
      std::fprintf(stderr, "bare_loop: \"%s\" is neither vary nor rate=EVENTS_PER_SECOND\n", word.c_str());
      return 2;
    }
  }
  Texts texts(kind, vary);
  Latencies latencies;
  const double wall = WallSeconds();
  const double cpu = CpuSeconds();
  if (kind == "send" || kind == "unix") {
    SendEach(Connect(address, SOCK_DGRAM), texts, seconds);
  } else if (kind == "segment") {
    SendSegments(Connect(address, SOCK_DGRAM), texts, seconds);
  } else if (kind == "tcp") {
    SendCoalesced(Connect(address, SOCK_STREAM), texts, seconds, kTcpWrite);
  } else if (kind == "request") {
    Request(Connect(address, SOCK_STREAM), texts, seconds, kOutstanding, &latencies);
  } else if (kind == "pingpong") {
    Request(Connect(address, SOCK_STREAM), texts, seconds, 1, &latencies);
  } else if (kind == "file") {
    const int fd = open(address.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) Die(address);
    SendCoalesced(fd, texts, seconds, kFileWrite);
  } else {
    std::fprintf(stderr, "bare_loop: no kind \"%s\"\n", kind.c_str());
    return 2;
  }
  std::printf("{\"events\":%llu,\"refused\":0,\"seconds\":%.6f,\"cpu\":%.6f,\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f}\n",
              static_cast<unsigned long long>(texts.count()), WallSeconds() - wall, CpuSeconds() - cpu,
              latencies.Quantile(0.5), latencies.Quantile(0.99), latencies.Quantile(0.999));
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) { return eventvirtual::Run(argc, argv); }
