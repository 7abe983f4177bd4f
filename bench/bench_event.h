// The event that every benchmark raises: it carries a sequence number which the receiver finds again in any encoding.
#ifndef EVENTVIRTUAL_BENCH_BENCH_EVENT_H_
#define EVENTVIRTUAL_BENCH_BENCH_EVENT_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace eventvirtual {

inline constexpr char kEvent[] = "E_BENCH";
inline constexpr char kCallId[] = "8f2d-41a7-b0c3-77e1@192.0.2.11";

// A sequence number is written as '#' and so many decimal digits; nothing else in the event holds a '#'.
inline constexpr size_t kDigits = 12;

// With a stamp, '~' follows and when the event was due: CLOCK_MONOTONIC in nanoseconds, so that a receiver on the same
// machine knows how long it took.
inline constexpr size_t kStampDigits = 19;

inline void WriteDigits(uint64_t number, char* digits, size_t count = kDigits) {
  for (size_t i = count; i-- > 0; number /= 10) digits[i] = static_cast<char>('0' + number % 10);
}

inline std::string SequenceText(uint64_t number) {
  std::string text(1 + kDigits, '#');
  WriteDigits(number, text.data() + 1);
  return text;
}

// The Call-ID of one event. Events are equally long, or with `vary` of 16 lengths, no two neighbours alike, so that no
// run of them can leave as one UDP_SEGMENT call.
inline size_t CallIdSize(uint64_t number, bool vary) { return sizeof(kCallId) - 1 - (vary ? 15 - number * 7 % 16 : 0); }

// What a subscriber gets, for loops that send it without us. 121 bytes unless varied.
inline std::string EventText(uint64_t number, bool vary) {
  return std::string("{\"jsonrpc\":\"2.0\",\"method\":\"") + kEvent + "\",\"params\":{\"seq\":\"" +
         SequenceText(number) + "\",\"callid\":\"" + std::string(kCallId, CallIdSize(number, vary)) +
         "\",\"code\":200}}";
}

// The same as a line of a flatstore file.
inline std::string EventLine(uint64_t number, bool vary) {
  return std::string(kEvent) + "," + SequenceText(number) + "," + std::string(kCallId, CallIdSize(number, vary)) +
         ",200\n";
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_BENCH_BENCH_EVENT_H_
