// Message: the immutable form of one raised event, shared by all who send it.
#ifndef EVENTVIRTUAL_TRANSPORTS_API_MESSAGE_H_
#define EVENTVIRTUAL_TRANSPORTS_API_MESSAGE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "transports/api/ref.h"

namespace eventvirtual {

struct Null {
  friend bool operator==(Null, Null) { return true; }
};

// One complete JSON value, sent as it is.
struct Json {
  absl::string_view text;
  friend bool operator==(Json a, Json b) { return a.text == b.text; }
};

using Value = std::variant<Null, bool, int64_t, double, absl::string_view, Json>;

// Order is kept: positional parameters, files and XML-RPC depend on it. Names may be empty (positional) and may repeat.
struct Param {
  absl::string_view name;
  Value value;
};

// What a message is made from; all views are copied. Text is UTF-8.
struct EventFields {
  absl::string_view name;
  absl::Span<const Param> params;
  absl::string_view event_id;                 // empty: one is made
  absl::Time event_time = absl::UnixEpoch();  // wall clock, for people and receivers
  absl::string_view source;
  absl::Span<const std::pair<absl::string_view, absl::string_view>> attributes;
  // The same event as JSON-RPC notification, where it came as one: then it is passed on as it came.
  absl::string_view jsonrpc;
  bool is_report = false;
  int hops = 0;  // 0 to kMostHops (hops.h); it is not among the attributes
};

// What a message can be turned into: see encoding.h.
enum class Encoding { kJsonRpc, kJson, kCloudEvents, kCloudEventsBinary, kProtobuf, kJsonRpcHops };
inline constexpr int kEncodings = 6;

class Message;
using MessageRef = Ref<const Message>;

// Immutable after Make(): any thread may read. Each encoding is made once, on first use, by whoever comes first.
class Message final : public RefCounted {
 public:
  // Copies `fields` into one block of memory, the message's own: its one allocation besides that of each other
  // encoding. The id, where none is given, is unique across processes and restarts.
  static MessageRef Make(const EventFields& fields);
  ~Message() override;

  absl::string_view name() const { return name_; }
  absl::Span<const Param> params() const { return params_; }
  absl::string_view event_id() const { return event_id_; }
  bool id_was_given() const { return id_was_given_; }  // by who raised it; else it was made here
  absl::Time event_time() const { return event_time_; }
  absl::string_view source() const { return source_; }
  absl::Span<const std::pair<absl::string_view, absl::string_view>> attributes() const { return attributes_; }

  // The event is about what fails in this service itself: what becomes of it is not reported by further ones.
  bool is_report() const { return is_report_; }

  // How many services like this one have delivered the event before it came here; 0: it is new. Receivers are told one
  // more.
  int hops() const { return hops_; }

  // What the event came as, where that was JSON-RPC; else empty.
  absl::string_view original_jsonrpc() const { return came_as_jsonrpc_ ? jsonrpc() : absl::string_view(); }

  // Bytes of all names and values: what the message costs a bounded queue.
  size_t size() const { return size_; }

  // The message in `encoding`, made on first use and kept. Any thread.
  absl::string_view encoded(Encoding encoding) const;
  // The JSON-RPC notification that OpenSIPS sends, or has sent.
  absl::string_view jsonrpc() const { return encoded(Encoding::kJsonRpc); }

 private:
  Message() = default;
  void OnLastRef() override;

  absl::string_view name_;
  absl::Span<const Param> params_;
  absl::string_view event_id_;
  absl::Time event_time_;
  absl::string_view source_;
  absl::Span<const std::pair<absl::string_view, absl::string_view>> attributes_;
  size_t size_ = 0;
  bool came_as_jsonrpc_ = false;  // that encoding, the first, stands in this block
  bool is_report_ = false;
  bool id_was_given_ = false;
  uint8_t hops_ = 0;
  // What the views point to stands behind this object, in the same block of memory.
  struct Text;
  mutable std::atomic<const Text*> encoded_[kEncodings] = {};
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_API_MESSAGE_H_
