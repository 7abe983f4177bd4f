// RunOnLoop: how a thread that builds or stops listeners waits for what it does on their loop.
#ifndef EVENTVIRTUAL_TRANSPORTS_IO_RUN_ON_LOOP_H_
#define EVENTVIRTUAL_TRANSPORTS_IO_RUN_ON_LOOP_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "transports/api/loop.h"

namespace eventvirtual {

// Runs `task` on the loop, and waits until it has ended and every copy of `hold` that it kept is given up. Not on the
// loop, which must run.
void RunOnLoop(Loop& loop, absl::AnyInvocable<void(const std::shared_ptr<void>& hold) &&> task);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_IO_RUN_ON_LOOP_H_
