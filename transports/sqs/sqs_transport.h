// sqs:https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE: events as messages of Amazon SQS.
#ifndef EVENTVIRTUAL_TRANSPORTS_SQS_SQS_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_SQS_SQS_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

// See README.md beside this file for syntax, options and what a success means. Each link reads the credentials from
// this process' environment when it is made: nobody may change that meanwhile.
std::unique_ptr<Transport> MakeSqsTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_SQS_SQS_TRANSPORT_H_
