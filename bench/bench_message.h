// The event of the benchmark as a message of the core.
#ifndef EVENTVIRTUAL_BENCH_BENCH_MESSAGE_H_
#define EVENTVIRTUAL_BENCH_BENCH_MESSAGE_H_

#include <cstdint>

#include "bench/bench_event.h"
#include "transports/api/message.h"

namespace eventvirtual {

// Its JSON-RPC text is EventText(number, vary), its line in a file EventLine(number, vary).
inline MessageRef MakeMessage(uint64_t number, bool vary = false) {
  char text[1 + kDigits] = {'#'};
  WriteDigits(number, text + 1);
  const Param params[] = {{"seq", absl::string_view(text, sizeof(text))},
                          {"callid", absl::string_view(kCallId, CallIdSize(number, vary))},
                          {"code", int64_t{200}}};
  EventFields fields;
  fields.name = kEvent;
  fields.params = params;
  return Message::Make(fields);
}

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_BENCH_BENCH_MESSAGE_H_
