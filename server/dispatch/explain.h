// Explain: where an event would go and why, without sending it.
#ifndef EVENTVIRTUAL_SERVER_DISPATCH_EXPLAIN_H_
#define EVENTVIRTUAL_SERVER_DISPATCH_EXPLAIN_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/registry/registry.h"
#include "transports/api/message.h"

namespace eventvirtual {

// What would become of the event at one subscription.
struct Explanation {
  // One subscriber.
  struct Step {
    std::string uri;    // masked
    bool tried = true;  // false: passed over, whatever becomes of the others
    std::string reason;
  };
  Ref<const Subscription> subscription;
  bool matches = false;
  std::string reason;       // why it does not match; else in which order its subscribers are tried
  std::vector<Step> steps;  // of a match: in the order in which they would be tried; behind them those passed over
};

struct Explanations {
  bool known = true;  // false: strict events, and nobody knows the name: a raise would be refused
  // In the order of a raise; behind them up to Registry::kMaxNear that almost take the name.
  std::vector<Explanation> subscriptions;
  uint64_t omitted = 0;  // those that take the name beyond `limit`
};

// Looks at everything as it is at this moment, and changes nothing: no turn advances, no canary is claimed, nothing is
// counted. Any thread; goes over the known names under the registry's mutex, so it is for people.
Explanations Explain(const Registry& registry, const Message& message, size_t limit);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DISPATCH_EXPLAIN_H_
