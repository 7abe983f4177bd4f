// GrpcConnection: one HTTP/2 connection to a gRPC server, and the calls that are out on it.
#ifndef EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_CONNECTION_H_
#define EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_CONNECTION_H_

#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transports/api/secret.h"
#include "transports/api/transport.h"
#include "transports/grpc/grpc_address.h"
#include "transports/grpc/grpc_answer.h"
#include "transports/io/byte_stream.h"
#include "transports/io/stream_connector.h"

namespace eventvirtual {

// Born connecting, lives once. nghttp2 makes and reads the frames; sockets and TLS are ours. Everything runs on the
// loop.
class GrpcConnection {
 public:
  enum class State {
    kConnecting,  // the server has not yet shown that it speaks HTTP/2
    kOpen,
    kLeaving,  // takes no more calls (GOAWAY, RFC 9113 section 6.8); what is out may still be answered
    kEnded,
  };

  // What its owner hears, on the loop, in the middle of the connection's own work: do not destroy it there.
  struct Reports {
    absl::AnyInvocable<void()> on_open;
    absl::AnyInvocable<void(Parcel)> on_untouched;  // one that the server has not looked at, and never will
    absl::AnyInvocable<void(const GrpcConnection&)> on_ended;
  };

  // Connects to `address`; with a `tls`, which outlives the connection, through TLS. `name` is the masked target.
  GrpcConnection(const GrpcAddress& address, absl::string_view name, SSL_CTX* tls, Loop& loop, Reports reports);
  ~GrpcConnection();  // ends all calls
  GrpcConnection(const GrpcConnection&) = delete;
  GrpcConnection& operator=(const GrpcConnection&) = delete;

  State state() const;
  // Why it takes no more calls; OK while it does.
  const absl::Status& why() const { return why_; }
  // It has carried an event to its OK, and the server ends it in order, as many do every few minutes: another
  // connection will do what this one does no more.
  bool may_be_followed() const { return proved_itself_ && in_order_; }
  // As many calls as the server takes at once.
  uint32_t max_calls() const;

  // Reads what has come. Before calls are made: one that has gone is noticed before events go into its grave.
  void Look();
  // Begins a call, only while kOpen; Flush() sends it.
  void Call(Parcel parcel);
  void Flush();

 private:
  // One event on its way.
  struct Outgoing {
    Parcel parcel;
    std::string head;  // of gRPC's frame, and of DeliverRequest.event
    size_t sent = 0;   // of head and event
    GrpcAnswer answer;
  };

  void OnConnected(absl::StatusOr<int> fd);
  void OnGoaway(uint32_t code, absl::string_view text);
  void Write();
  void TakeIn(absl::string_view bytes);
  void HandBackUntouched();
  void Lost(const absl::Status& how);
  void End(const absl::Status& why);
  absl::Status Confused() const;
  absl::Status Named(const absl::Status& status) const;
  void Finish(int32_t id, absl::Status outcome);
  static size_t SizeOf(const Outgoing& call);

  // What nghttp2 calls, from inside its own functions, in which none of them may be called again.
  static GrpcConnection& Of(void* self) { return *static_cast<GrpcConnection*>(self); }
  static nghttp2_session_callbacks* MakeCallbacks();
  static int OnFrame(nghttp2_session*, const nghttp2_frame* frame, void* self);
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                      const uint8_t* value, size_t value_size, uint8_t, void* self);
  static int OnStreamClose(nghttp2_session*, int32_t id, uint32_t code, void* self);
  static int OnNotSent(nghttp2_session*, const nghttp2_frame* frame, int, void* self);
  static int OnFault(nghttp2_session*, int, const char* text, size_t size, void* self);
  static ssize_t ReadMessage(nghttp2_session*, int32_t id, uint8_t* buffer, size_t size, uint32_t* flags,
                             nghttp2_data_source*, void* self);

  const GrpcAddress& address_;
  const std::string name_;
  const std::string authority_, timeout_;  // headers' values
  const Secret authorization_;
  SSL_CTX* const tls_;
  Loop& loop_;
  Reports reports_;
  std::unique_ptr<StreamConnector> connector_;
  std::unique_ptr<ByteStream> stream_;
  std::unique_ptr<Loop::Watch> watch_;
  nghttp2_session* session_ = nullptr;

  bool open_ = false;
  bool ended_ = false;
  bool proved_itself_ = false;
  bool in_order_ = false;
  absl::Status why_;
  bool speaks_tls_ = false;                   // where we do not
  std::string fault_;                         // what nghttp2 dislikes
  std::string out_;                           // frames, at most kWriteAhead and one more
  size_t out_start_ = 0;                      // what stands before it has been taken by the stream
  absl::btree_map<int32_t, Outgoing> calls_;  // by stream; bounded by the window
  std::vector<Parcel> untouched_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_GRPC_GRPC_CONNECTION_H_
