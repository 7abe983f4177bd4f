// The transports `mqtt://` and `mqtts://`: publishes to a topic.
#ifndef EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_TRANSPORT_H_
#define EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_TRANSPORT_H_

#include <memory>

#include "transports/api/transport.h"

namespace eventvirtual {

std::unique_ptr<Transport> MakeMqttTransport();

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_MQTT_MQTT_TRANSPORT_H_
