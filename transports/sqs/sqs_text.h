// The texts of SQS' SendMessage in the protocol AWS JSON 1.0, and what SQS answers to it (SQS API reference;
// docs/decisions/0010-sqs.md).
#ifndef EVENTVIRTUAL_TRANSPORTS_SQS_SQS_TEXT_H_
#define EVENTVIRTUAL_TRANSPORTS_SQS_SQS_TEXT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "transports/api/message.h"
#include "transports/api/secret.h"
#include "transports/sqs/sqs_address.h"

namespace eventvirtual {

// OK if SQS takes `message`; else INVALID_ARGUMENT: it is larger than 1 MiB with its attributes, or holds a character
// that SQS would refuse or replace (U+FFFE, U+FFFF: what XML 1.0 cannot hold and JSON does not escape).
absl::Status CheckSqsMessage(const SqsAddress& address, const Message& message);

// The body of the request. The event's id is the message attribute "event-id", percent-encoded where it is not
// printable ASCII; for a FIFO queue also the MessageDeduplicationId, or its SHA-256 in hexadecimal where it is longer
// than 128 characters. With any but the default encoding the attribute "content-type" names it.
std::string EncodeSendMessage(const SqsAddress& address, const Message& message);

// OK if `answer`, the body of a 200, says that SQS stored exactly `sent`; else UNAVAILABLE with what it says instead.
absl::Status CheckSqsAnswer(absl::string_view answer, absl::string_view sent);

// What any other answer says: the error of SQS with its text, as the status that it is for an event, and what to do.
// `token`, if there is one, is not repeated: AWS tells whose signature is wrong what was signed.
absl::Status SqsErrorOf(long status, absl::string_view answer, const Secret& token);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_SQS_SQS_TEXT_H_
