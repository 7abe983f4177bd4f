// DeadLetterSender: takes dead letters to where their subscriptions want them.
#ifndef EVENTVIRTUAL_SERVER_DURABLE_DEAD_LETTER_SENDER_H_
#define EVENTVIRTUAL_SERVER_DURABLE_DEAD_LETTER_SENDER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/journal/journal.h"
#include "transports/api/catalog.h"
#include "transports/api/loop.h"
#include "transports/api/message.h"

namespace eventvirtual {

// An event that is given up is first a dead letter in the journal, so nothing is lost whenever the process dies. Those
// whose subscription has a dead_letter_uri are read back here, sent there by an ordinary endpoint, in one attempt each,
// and erased when it has succeeded. One that fails stays a dead letter like any other, and has both reasons. What was
// on its way when the process ended is sent by the next: it may come twice.
//
// Up to kAtOnce are out, in their order; those that follow wait for the last of them. So a destination that hangs
// delays the others by its attempt timeout.
class DeadLetterSender {
 public:
  static constexpr size_t kAtOnce = 64;

  // All outlive it, but the journal, which may be closed before.
  DeadLetterSender(Journal& journal, const Catalog& catalog, EndpointPool& pool, Loop& loop);
  ~DeadLetterSender();  // on the loop, or after it has stopped

  // There may be some to send. Any thread; never blocks.
  void Wake();

  // Nothing more is sent. What is out may still succeed; if it fails, it is for the next life. Any thread.
  void Stop();

  struct Counts {
    uint64_t sent = 0;
    uint64_t failed = 0;  // and are kept
  };
  Counts counts() const;  // any thread

 private:
  struct Page;

  // All on the loop.
  void Read();
  void Send(std::vector<SavedDeadLetter> letters);
  void OnEnd(const Page& page);

  Journal& journal_;
  const Catalog& catalog_;
  EndpointPool& pool_;
  Loop& loop_;
  std::atomic<uint64_t> sent_{0}, failed_{0};

  // On the loop.
  bool busy_ = false;   // it reads, or some are out
  bool again_ = false;  // it was woken meanwhile
  bool stopped_ = false;
  uint64_t after_ = 0;  // in this life all up to this id were tried, or had nowhere to go
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// The event as it was, with its id and its time, and three parameters behind its own: dead_letter_reason,
// dead_letter_attempts, dead_letter_subscription; without names where its own have none.
MessageRef DeadLetterMessage(const Message& event, const SavedDeadLetter& letter);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_DURABLE_DEAD_LETTER_SENDER_H_
