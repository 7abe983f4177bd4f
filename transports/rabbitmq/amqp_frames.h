// AMQP 0-9-1 frames: cutting what the broker sends, and building what it is sent. What is inside a frame is encoded and
// decoded by librabbitmq.
#ifndef EVENTVIRTUAL_TRANSPORTS_RABBITMQ_AMQP_FRAMES_H_
#define EVENTVIRTUAL_TRANSPORTS_RABBITMQ_AMQP_FRAMES_H_

#include <amqp.h>
#include <amqp_framing.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "transports/api/message.h"
#include "transports/rabbitmq/broker_address.h"

namespace eventvirtual {

inline constexpr uint32_t kMinAmqpFrame = 4096;     // bytes that each side must take (section 1.4.2.6)
inline constexpr uint32_t kMaxAmqpFrame = 1 << 17;  // what we take: RabbitMQ's own default
inline constexpr uint16_t kAmqpConnection = 0;      // the channel of the connection itself
inline constexpr uint16_t kAmqpChannel = 1;         // the only other one we use

inline amqp_bytes_t AmqpBytes(absl::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }
inline absl::string_view ViewOf(amqp_bytes_t bytes) { return {static_cast<const char*>(bytes.bytes), bytes.len}; }

struct AmqpFrame {
  enum class Kind { kMethod, kHeader, kOther };
  Kind kind = Kind::kOther;
  amqp_method_number_t method = 0;                      // kMethod
  void* decoded = nullptr;                              // kMethod: its amqp_…_t
  const amqp_basic_properties_t* properties = nullptr;  // kHeader: of a message
};

// Cuts a stream of bytes into frames. Memory: one frame and what was appended last.
class AmqpFrameReader {
 public:
  AmqpFrameReader();
  ~AmqpFrameReader();
  AmqpFrameReader(const AmqpFrameReader&) = delete;
  AmqpFrameReader& operator=(const AmqpFrameReader&) = delete;

  void Append(absl::string_view bytes);

  // The next whole frame, valid until the next call; nothing when more bytes are needed.
  // INVALID_ARGUMENT: this is not AMQP 0-9-1; the stream is of no more use.
  absl::StatusOr<std::optional<AmqpFrame>> Next();

 private:
  std::string bytes_;
  size_t start_ = 0;  // of the next frame
  amqp_pool_t pool_;  // of what the last frame decoded to
};

// Each appends whole frames to `out`.
void AppendHeartbeat(std::string* out);
// `method` is the amqp_…_t of `id`. Its texts must have come from a BrokerAddress or be ours: too long ones are a
// CHECK.
void AppendAmqpMethod(uint16_t channel, amqp_method_number_t id, void* method, std::string* out);
template <typename Method>
void AppendAmqpMethod(uint16_t channel, amqp_method_number_t id, Method method, std::string* out) {
  AppendAmqpMethod(channel, id, static_cast<void*>(&method), out);
}
// connection.start-ok: user, password, and what we can do.
void AppendLogin(const BrokerAddress& address, std::string* out);
// basic.publish with the message's properties and its body, in frames of at most `frame_max` bytes. `tag` travels
// along. INVALID_ARGUMENT: the properties do not fit; nothing was appended.
absl::Status AppendPublish(const BrokerAddress& address, const Message& message, uint64_t tag, uint32_t frame_max,
                           std::string* out);

// The tag with which a message that came back was published. A basic.return has no delivery tag, and event ids are the
// client's to choose, so this alone tells copies apart. Nothing: somebody has taken our header away.
std::optional<uint64_t> TagOf(const amqp_basic_properties_t& properties);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_RABBITMQ_AMQP_FRAMES_H_
