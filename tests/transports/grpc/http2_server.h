// Http2Server: an HTTP/2 server on a loopback port that does to each call what a test says, frame by frame. Beside the
// real gRPC server of these tests it is there for what that one cannot be asked for, and runs under ThreadSanitizer.
#ifndef EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_HTTP2_SERVER_H_
#define EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_HTTP2_SERVER_H_

#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/transports/io/loopback_listener.h"
#include "tests/transports/io/on_loop.h"
#include "transports/api/mutex.h"
#include "transports/io/event_loop.h"

namespace eventvirtual {

struct Http2Call {
  int connection = 0;  // they count from 1
  int32_t stream = 0;
  std::map<std::string, std::string> headers;
  std::string body;
};

using Http2Headers = std::vector<std::pair<std::string, std::string>>;

struct Http2Answer {
  enum class Kind { kAnswer, kReset, kHold } kind = Kind::kAnswer;
  Http2Headers headers;   // of an answer
  Http2Headers trailers;  // empty: the headers end the answer
  uint32_t code = 0;      // of a reset
};

inline Http2Answer Reset(uint32_t code) { return {.kind = Http2Answer::Kind::kReset, .code = code}; }
inline Http2Answer Hold() { return {.kind = Http2Answer::Kind::kHold}; }
inline Http2Answer GrpcStatus(const std::string& code, const std::string& message = "") {
  Http2Answer answer{.headers = {{":status", "200"}, {"content-type", "application/grpc"}},
                     .trailers = {{"grpc-status", code}}};
  if (!message.empty()) answer.trailers.push_back({"grpc-message", message});
  return answer;
}

// Methods are for the test's thread and have taken effect when they return.
class Http2Server {
 public:
  // `on_call` runs on the server's loop; the call has been recorded before, whole, or with `early` its headers alone.
  explicit Http2Server(std::function<Http2Answer(const Http2Call&)> on_call, uint32_t max_streams = 100,
                       bool early = false)
      : on_call_(std::move(on_call)), max_streams_(max_streams), early_(early) {
    OnLoop(loop_, [this] {
      listener_ = std::make_unique<LoopbackListener>(loop_, 0, [this](int fd) { Accept(fd); });
      port_ = listener_->port();
    });
  }
  ~Http2Server() {
    OnLoop(loop_, [this] {
      connections_.clear();
      listener_.reset();
    });
  }

  uint16_t port() const { return port_; }

  std::optional<Http2Call> ReceiveCall(absl::Duration patience = kPatience) {
    const absl::Time give_up = absl::Now() + patience;
    MutexLock lock(&mutex_);
    while (received_.empty() && absl::Now() < give_up) changed_.WaitFor(&mutex_, give_up - absl::Now());
    if (received_.empty()) return std::nullopt;
    Http2Call call = std::move(received_.front());
    received_.pop_front();
    return call;
  }
  // The event in it, as its bytes: what stands behind gRPC's frame head, the tag and the length.
  std::optional<std::string> Receive(absl::Duration patience) {
    const std::optional<Http2Call> call = ReceiveCall(patience);
    if (!call.has_value()) return std::nullopt;
    size_t begin = 6;
    while (begin < call->body.size() && (call->body[begin] & 0x80) != 0) ++begin;
    return call->body.substr(begin + 1);
  }

  // Answers a call that is held.
  void Answer(const Http2Call& call, const Http2Answer& answer) {
    OnConnectionOf(call, [&](Connection& connection) { Answer(connection, call.stream, answer); });
  }
  // Tells the connection of `call` that it takes no calls above `last_stream`.
  void Goaway(const Http2Call& call, int32_t last_stream, uint32_t code = NGHTTP2_NO_ERROR,
              const std::string& text = "") {
    OnConnectionOf(call, [&](Connection& connection) {
      nghttp2_submit_goaway(connection.session, NGHTTP2_FLAG_NONE, last_stream, code,
                            reinterpret_cast<const uint8_t*>(text.data()), text.size());
    });
  }
  // Tells the same that it takes only so many calls at once from now on.
  void SetMaxStreams(const Http2Call& call, uint32_t count) {
    OnConnectionOf(call, [count](Connection& connection) {
      const nghttp2_settings_entry settings = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, count};
      nghttp2_submit_settings(connection.session, NGHTTP2_FLAG_NONE, &settings, 1);
    });
  }
  // Accepts no more connections.
  void Refuse() {
    OnLoop(loop_, [this] { listener_.reset(); });
  }
  int accepted() {
    int count = 0;
    OnLoop(loop_, [&] { count = accepted_; });
    return count;
  }

 private:
  struct Connection {
    Connection(Http2Server& server, int fd, int number) : server(server), fd(fd), number(number) {}
    ~Connection() {
      watch.reset();
      nghttp2_session_del(session);
      close(fd);
    }
    Http2Server& server;
    const int fd;
    const int number;
    std::unique_ptr<Loop::Watch> watch;
    nghttp2_session* session = nullptr;
    std::map<int32_t, Http2Call> calls;        // that are coming in
    std::map<int32_t, Http2Headers> trailers;  // that are to follow
    std::string out;
  };

  void OnConnectionOf(const Http2Call& call, absl::FunctionRef<void(Connection&)> act) {
    OnLoop(loop_, [&] {
      for (auto& connection : connections_) {
        if (connection->number != call.connection) continue;
        act(*connection);
        return Write(*connection);
      }
      ADD_FAILURE() << "the connection has gone";
    });
  }

  static Connection& Of(void* self) { return *static_cast<Connection*>(self); }

  void Accept(int fd) {
    Connection& connection = *connections_.emplace_back(std::make_unique<Connection>(*this, fd, ++accepted_));
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* self) {
          Of(self).calls[frame->hd.stream_id].headers[std::string(name, name + name_size)] =
              std::string(value, value + value_size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, uint8_t, int32_t stream, const uint8_t* bytes, size_t size, void* self) {
          Of(self).calls[stream].body.append(bytes, bytes + size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* self) {
          const bool head = frame->hd.type == NGHTTP2_HEADERS;
          const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
          if (Of(self).server.early_ ? head : end && (head || frame->hd.type == NGHTTP2_DATA)) {
            Of(self).server.OnCall(Of(self), frame->hd.stream_id);
          }
          return 0;
        });
    nghttp2_session_server_new(&connection.session, callbacks, &connection);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams_};
    nghttp2_submit_settings(connection.session, NGHTTP2_FLAG_NONE, &settings, 1);
    connection.watch = loop_.NewWatch(fd, [this, &connection](Loop::Readiness) {
      if (Read(connection)) Write(connection);
    });
    Write(connection);
  }

  void OnCall(Connection& connection, int32_t stream) {
    Http2Call call = std::move(connection.calls[stream]);
    connection.calls.erase(stream);
    call.connection = connection.number;
    call.stream = stream;
    {
      MutexLock lock(&mutex_);
      received_.push_back(call);
      changed_.SignalAll();
    }
    Answer(connection, stream, on_call_(call));
  }

  static std::vector<nghttp2_nv> Fields(const Http2Headers& headers) {
    std::vector<nghttp2_nv> fields;
    for (const auto& [name, value] : headers) {
      fields.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                        reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                        NGHTTP2_NV_FLAG_NONE});
    }
    return fields;
  }

  // A DeliverResponse between headers and trailers: gRPC's frame head, and nothing in it.
  static ssize_t NoMessage(nghttp2_session* session, int32_t stream, uint8_t* buffer, size_t, uint32_t* flags,
                           nghttp2_data_source*, void* self) {
    std::fill(buffer, buffer + 5, 0);
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const std::vector<nghttp2_nv> trailers = Fields(Of(self).trailers[stream]);
    nghttp2_submit_trailer(session, stream, trailers.data(), trailers.size());
    return 5;
  }

  static void Answer(Connection& connection, int32_t stream, const Http2Answer& answer) {
    const std::vector<nghttp2_nv> headers = Fields(answer.headers);
    nghttp2_data_provider message = {.source = {}, .read_callback = &NoMessage};
    switch (answer.kind) {
      case Http2Answer::Kind::kHold:
        return;
      case Http2Answer::Kind::kReset:
        nghttp2_submit_rst_stream(connection.session, NGHTTP2_FLAG_NONE, stream, answer.code);
        return;
      case Http2Answer::Kind::kAnswer:
        connection.trailers[stream] = answer.trailers;
        nghttp2_submit_response(connection.session, stream, headers.data(), headers.size(),
                                answer.trailers.empty() ? nullptr : &message);
    }
  }

  // False: the connection has gone.
  bool Read(Connection& connection) {
    uint8_t bytes[64 << 10];
    const ssize_t got = recv(connection.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0 || nghttp2_session_mem_recv(connection.session, bytes, got) < 0) return Remove(connection), false;
    return true;
  }

  void Write(Connection& connection) {
    const uint8_t* bytes = nullptr;
    for (ssize_t size = 0; (size = nghttp2_session_mem_send(connection.session, &bytes)) > 0;) {
      connection.out.append(bytes, bytes + size);
    }
    const ssize_t sent = send(connection.fd, connection.out.data(), connection.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) connection.out.erase(0, sent);
    if (connection.out.empty() && nghttp2_session_want_read(connection.session) == 0 &&
        nghttp2_session_want_write(connection.session) == 0) {
      return Remove(connection);  // as after a GOAWAY, when all is answered
    }
    connection.watch->Want({.readable = true, .writable = !connection.out.empty()});
  }

  void Remove(Connection& connection) {
    connections_.remove_if([&](const auto& other) { return other.get() == &connection; });
  }

  const std::function<Http2Answer(const Http2Call&)> on_call_;
  const uint32_t max_streams_;
  const bool early_;
  uint16_t port_ = 0;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Http2Call> received_ ABSL_GUARDED_BY(mutex_);
  // On the loop.
  int accepted_ = 0;
  std::unique_ptr<LoopbackListener> listener_;
  std::list<std::unique_ptr<Connection>> connections_;
  EventLoop loop_{"http2-server"};  // the last member: nothing runs on it any more when the others go
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TESTS_TRANSPORTS_GRPC_HTTP2_SERVER_H_
