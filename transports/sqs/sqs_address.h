// SqsAddress: the text of an sqs subscriber, understood.
#ifndef EVENTVIRTUAL_TRANSPORTS_SQS_SQS_ADDRESS_H_
#define EVENTVIRTUAL_TRANSPORTS_SQS_SQS_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "transports/api/encoding.h"
#include "transports/api/uri.h"
#include "transports/http/http_options.h"

namespace eventvirtual {

// `https://host[:port]/…/QUEUE[?options]`: the queue's URL, as SQS gives it; the README has the options. No part of it
// is secret.
struct SqsAddress {
  HttpPeer peer;          // the service: requests go to "/", where AWS's own clients send them
  std::string queue_url;  // what names the queue in a request
  std::string region;     // that requests are signed for
  std::string group;      // MessageGroupId; empty if the queue is not a FIFO one
  Encoding encoding = Encoding::kJsonRpc;

  // The canonical text.
  std::string ToString() const;
};

// INVALID_ARGUMENT names the faulty part and what would be accepted, never a password.
absl::StatusOr<SqsAddress> ParseSqsAddress(const Uri& uri);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_SQS_SQS_ADDRESS_H_
