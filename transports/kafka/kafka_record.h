// What a Kafka record has besides its value: key and headers.
#ifndef EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_RECORD_H_
#define EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_RECORD_H_

#include <librdkafka/rdkafka.h>

#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "transports/api/message.h"

namespace eventvirtual {

// The value of the first parameter called `name`, as text; nothing if there is none, or if it is null.
std::optional<std::string> KafkaKeyOf(const Message& message, absl::string_view name);

// "event-id", the trace context, and with any encoding but kJsonRpc "content-type"; with kCloudEventsBinary also the
// context attributes as the CloudEvents binding for Kafka (section 3.2.3) has them. The caller owns the headers.
rd_kafka_headers_t* KafkaHeadersOf(const Message& message, Encoding encoding);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_KAFKA_KAFKA_RECORD_H_
