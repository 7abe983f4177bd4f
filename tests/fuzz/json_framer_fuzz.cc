// The objects found in a stream, and whether it can be read at all, do not depend on where it is cut; none is larger
// than allowed, none is lost, and the memory held is bounded by the largest object and the largest piece.
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "transports/api/check.h"
#include "transports/io/json_framer.h"

namespace {

// Of the framer: counted only inside its calls.
bool counting = false;
size_t live_bytes = 0;
size_t peak_bytes = 0;

}  // namespace

void* operator new(size_t size, const std::nothrow_t&) noexcept {
  void* const block = std::malloc(size);
  if (counting) peak_bytes = std::max(peak_bytes, live_bytes += malloc_usable_size(block));
  return block;
}
void* operator new(size_t size) {
  void* const block = operator new(size, std::nothrow);
  EV_CHECK(block != nullptr);
  return block;
}
void operator delete(void* block) noexcept {
  if (counting) live_bytes -= std::min(live_bytes, malloc_usable_size(block));
  std::free(block);
}
void operator delete(void* block, size_t) noexcept { operator delete(block); }

namespace eventvirtual {
namespace {

struct Framed {
  std::vector<std::string> objects;
  std::string fault;  // empty: all could be read

  friend bool operator==(const Framed&, const Framed&) = default;
};

// Feeds `stream` in pieces; `piece(rest)` is the length of the next one.
template <typename Piece>
Framed Frame(absl::string_view stream, size_t max_bytes, Piece piece) {
  Framed framed;
  JsonFramer framer(max_bytes);
  live_bytes = peak_bytes = 0;
  size_t longest = 0;
  while (!stream.empty()) {
    const size_t length = std::min(piece(stream), stream.size());
    longest = std::max(longest, length);
    counting = true;
    framer.Append(stream.substr(0, length));
    counting = false;
    stream.remove_prefix(length);
    while (true) {
      counting = true;
      const absl::StatusOr<std::optional<absl::string_view>> object = framer.Next();
      counting = false;
      if (!object.ok()) {
        EV_CHECK(absl::IsInvalidArgument(object.status()) && !object.status().message().empty());
        EV_CHECK(framed.fault.empty() || framed.fault == object.status().message());
        framed.fault = std::string(object.status().message());
        break;
      }
      EV_CHECK(framed.fault.empty());  // broken is broken for ever after
      if (!object->has_value()) break;
      EV_CHECK((*object)->size() <= max_bytes);
      framed.objects.emplace_back(**object);
    }
  }
  // A string that grows holds its old and its doubled new text for a moment; the fault's text comes on top.
  EV_CHECK(peak_bytes <= 3 * (max_bytes + longest) + 512);
  return framed;
}

void SkipBlanks(absl::string_view* text) {
  text->remove_prefix(std::min(text->find_first_not_of(" \t\r\n"), text->size()));
}

void CheckStream(absl::string_view stream, size_t max_bytes) {
  const Framed whole = Frame(stream, max_bytes, [](absl::string_view rest) { return rest.size(); });
  const Framed bytes = Frame(stream, max_bytes, [](absl::string_view) { return size_t{1}; });
  const Framed pieces = Frame(
      stream, max_bytes, [](absl::string_view rest) { return size_t{1} + static_cast<unsigned char>(rest[0]) % 32; });
  EV_CHECK(bytes == whole);
  EV_CHECK(pieces == whole);

  // What was found is what stands there.
  for (const std::string& object : whole.objects) {
    SkipBlanks(&stream);
    EV_CHECK(absl::StartsWith(object, "{") && absl::EndsWith(object, "}"));
    EV_CHECK(absl::ConsumePrefix(&stream, object));
  }
  if (!whole.fault.empty()) return;
  SkipBlanks(&stream);
  EV_CHECK(stream.empty() || (stream[0] == '{' && stream.size() <= max_bytes));
}

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view stream(reinterpret_cast<const char*>(data), size);
  for (size_t max_bytes : {64, 1024}) eventvirtual::CheckStream(stream, max_bytes);
  return 0;
}
