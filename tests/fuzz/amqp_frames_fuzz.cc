// The frames of a stream are the same however it arrives in pieces, and end where a reference that goes byte by byte
// ends them; a stream that is refused stays so. What is published comes back as it was: methods, properties, tag and
// body.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "transports/api/check.h"
#include "transports/rabbitmq/amqp_frames.h"

namespace eventvirtual {
namespace {

// What of a frame can be compared when it is gone.
struct Seen {
  AmqpFrame::Kind kind;
  amqp_method_number_t method = 0;
  bool has_tag = false;
  uint64_t tag = 0;
  friend bool operator==(const Seen& a, const Seen& b) {
    return a.kind == b.kind && a.method == b.method && a.has_tag == b.has_tag && a.tag == b.tag;
  }
};

struct Stream {
  std::vector<Seen> frames;
  std::string error;
};

// `piece`: bytes that come at a time.
Stream ReadAll(absl::string_view bytes, size_t piece) {
  AmqpFrameReader reader;
  Stream stream;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    reader.Append(bytes.substr(at, piece));
    while (true) {
      const absl::StatusOr<std::optional<AmqpFrame>> frame = reader.Next();
      if (!frame.ok()) {
        EV_CHECK(absl::IsInvalidArgument(frame.status()) && !frame.status().message().empty());
        stream.error = std::string(frame.status().message());
        return stream;
      }
      if (!frame->has_value()) break;
      Seen seen{(*frame)->kind, (*frame)->method};
      EV_CHECK(((*frame)->kind == AmqpFrame::Kind::kMethod) == ((*frame)->decoded != nullptr));
      EV_CHECK(((*frame)->kind == AmqpFrame::Kind::kHeader) == ((*frame)->properties != nullptr));
      if ((*frame)->properties != nullptr) {
        const std::optional<uint64_t> tag = TagOf(*(*frame)->properties);
        seen.has_tag = tag.has_value();
        seen.tag = tag.value_or(0);
      }
      stream.frames.push_back(seen);
    }
  }
  return stream;
}

// How many whole frames there are at most: section 4.2.3, byte by byte.
size_t WholeFrames(absl::string_view bytes) {
  size_t count = 0;
  while (bytes.size() >= 8) {
    size_t size = 0;
    for (size_t i = 3; i < 7; ++i) size = size * 256 + static_cast<unsigned char>(bytes[i]);
    const auto type = static_cast<unsigned char>(bytes[0]);
    if ((type != 1 && type != 2 && type != 3 && type != 8) || size + 8 > kMaxAmqpFrame || bytes.size() < size + 8)
      break;
    if (static_cast<unsigned char>(bytes[size + 7]) != 0xce) break;
    ++count;
    bytes.remove_prefix(size + 8);
  }
  return count;
}

void CheckStream(absl::string_view bytes) {
  const Stream whole = ReadAll(bytes, std::max<size_t>(bytes.size(), 1));
  for (size_t piece : {1, 3, 64}) {
    const Stream pieces = ReadAll(bytes, piece);
    EV_CHECK(pieces.frames == whole.frames && pieces.error == whole.error);
  }
  const size_t frames = WholeFrames(bytes);
  EV_CHECK(whole.frames.size() <= frames);
  // Only what librabbitmq does not understand may stop it before.
  EV_CHECK(whole.frames.size() == frames || !whole.error.empty());
}

// The input is the text of an event; what its first byte says are the rest's properties.
void CheckPublish(absl::string_view text) {
  const Param param{"", text};
  EventFields fields;
  fields.name = "E";
  fields.event_id = text.substr(0, 300);
  fields.params = absl::MakeConstSpan(&param, 1);
  const MessageRef message = Message::Make(fields);
  BrokerAddress address;
  address.routing_key = "key";
  address.headers = {{"h", std::string(text.substr(0, 200))}};
  address.persistent = text.size() % 2 != 0;
  address.encoding = text.size() % 3 != 0 ? Encoding::kJsonRpc : Encoding::kCloudEventsBinary;
  const uint64_t tag = text.size() * 0x123456789abcdef;
  std::string out = "before";
  const absl::Status status = AppendPublish(address, *message, tag, kMinAmqpFrame, &out);
  if (!status.ok()) {
    EV_CHECK(absl::IsInvalidArgument(status) && out == "before");
    return;
  }
  const absl::string_view body = message->encoded(address.encoding);
  const Stream sent = ReadAll(absl::string_view(out).substr(6), kMinAmqpFrame);
  EV_CHECK(sent.error.empty());
  EV_CHECK(sent.frames.size() == 2 + (body.size() + kMinAmqpFrame - 9) / (kMinAmqpFrame - 8));
  EV_CHECK(sent.frames[0].kind == AmqpFrame::Kind::kMethod && sent.frames[0].method == AMQP_BASIC_PUBLISH_METHOD);
  EV_CHECK(sent.frames[1].kind == AmqpFrame::Kind::kHeader && sent.frames[1].has_tag && sent.frames[1].tag == tag);
  std::string came;
  for (absl::string_view rest = absl::string_view(out).substr(6); !rest.empty();) {
    size_t size = 0;
    for (size_t i = 3; i < 7; ++i) size = size * 256 + static_cast<unsigned char>(rest[i]);
    EV_CHECK(size + 8 <= kMinAmqpFrame);
    if (rest[0] == AMQP_FRAME_BODY) came.append(rest.data() + 7, size);
    rest.remove_prefix(size + 8);
  }
  EV_CHECK(came == body);
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  eventvirtual::CheckStream(bytes);
  eventvirtual::CheckPublish(bytes);
  return 0;
}
