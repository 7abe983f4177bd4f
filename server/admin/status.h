// StatusBoard: what the service is doing at this moment, as JSON, for the status page.
#ifndef EVENTVIRTUAL_SERVER_ADMIN_STATUS_H_
#define EVENTVIRTUAL_SERVER_ADMIN_STATUS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/dispatch/dispatcher.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/journal/journal.h"
#include "server/load/load.h"
#include "server/registry/registry.h"

namespace eventvirtual {

// A page of each list. A position is what the answer before gave as "next"; "" is the beginning.
struct StatusQuery {
  std::string filter;  // only what has this text in it, in upper or lower case: a name, a URI, an error
  std::string subscriptions;
  std::string endpoints;
  std::string events;
  size_t limit = 50;  // rows of each list
};

struct StatusLimits {
  uint32_t queue_events = 10000;                        // EndpointLimits::queue_events
  absl::Duration failover_timeout = absl::Seconds(30);  // the cool-down that is shown of an endpoint
  // How many of a list one answer looks at: what costs time on the loop, some 100 ms for so many subscriptions. The
  // sums of a longer list are those of its beginning, which the answer says.
  size_t looked_at = 100000;
};

class StatusBoard {
 public:
  static constexpr size_t kMaxRows = 200;
  static constexpr size_t kMaxFilter = 200;  // bytes

  // All outlive it. Its uptime begins now.
  StatusBoard(const Registry& registry, const EndpointPool& pool, const Dispatcher& dispatcher,
              const StatusLimits& limits)
      : registry_(registry), pool_(pool), dispatcher_(dispatcher), limits_(limits), started_(registry.clock().Now()) {}

  // Says whether something is refused for load; before it is asked. Outlives it.
  void ShowLoad(const Load* load) { load_ = load; }
  // A journal there is; before it is asked. Outlives it.
  void ShowJournal(const Journal* journal) { journal_ = journal; }

  // What docs/status_page.md describes. Subscriptions and endpoints come in the order of creation, those first that
  // fail, then those drained and those of whose subscribers some do not work; events by name. Times are seconds from
  // now, so that no clocks need to agree. URIs and errors are masked. Any thread; give it one on which no event waits.
  // INVALID_ARGUMENT: a position that was not given by "next", or too long a filter.
  absl::StatusOr<std::string> Json(const StatusQuery& query) const;

 private:
  const Registry& registry_;
  const EndpointPool& pool_;
  const Dispatcher& dispatcher_;
  const StatusLimits limits_;
  const absl::Time started_;
  const Load* load_ = nullptr;        // null: nothing ever is
  const Journal* journal_ = nullptr;  // null: there is none
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ADMIN_STATUS_H_
