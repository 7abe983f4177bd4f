// What is said to OpenSIPS' management interface (MI), and what it answers: JSON-RPC 2.0.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_MI_ANSWER_H_
#define EVENTVIRTUAL_SERVER_ENROLL_MI_ANSWER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace eventvirtual {

// One request; `params` is a JSON array or object.
std::string MiCallText(uint32_t id, absl::string_view method, absl::string_view params);

// Reads the answer to the request `id`: the JSON text of its "result". Nothing: it answers another request.
//
// An "error" is its code and message, as "404 Event not published", with a string of its "data" in brackets; in
// printable ASCII, and cut where it is long. The status code tells 404 (NOT_FOUND) and what the peer does not know
// (-32601: UNIMPLEMENTED) from all others (FAILED_PRECONDITION). UNAVAILABLE: the text is no answer at all; it is not
// repeated.
std::optional<absl::StatusOr<std::string>> ReadMiAnswer(absl::string_view text, uint32_t id);

// The names in a result of events_list, {"Events":[{"name":"E_TEST","id":9}]}, those alone that may be an event's name.
// UNAVAILABLE: it is none.
absl::StatusOr<std::vector<std::string>> ReadEventNames(absl::string_view result);

// One subscriber of one event at OpenSIPS.
struct ListedSubscriber {
  std::string event;
  std::string socket;  // as OpenSIPS prints it: with its passwords. Never for a log
  absl::Duration ttl;  // what is left of it, zero or less: it has expired; infinite: it never does
};

// The subscribers in a result of subscribers_list, of all events, of one, or one of one:
// {"Events":[{"name","id","Subscribers":[{"socket","expire","ttl"}]}]}, {"Event":{…"Subscribers":[…]}},
// {"Event":{…"Subscriber":{…}}}; {} stands for an event without subscribers. UNAVAILABLE: it is none of these.
absl::StatusOr<std::vector<ListedSubscriber>> ReadSubscribers(absl::string_view result);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_MI_ANSWER_H_
