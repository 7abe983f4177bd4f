// What our rabbitmq transport cannot beat by much: a loop over librabbitmq that publishes with confirms, as many events
// unconfirmed at a time as our link has.
//
//   rabbitmq_loop PORT QUEUE SECONDS
//
// Prints one JSON object when all is confirmed.
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "bench/bench_event.h"
#include "bench/measure.h"

namespace eventvirtual {
namespace {

constexpr uint64_t kWindow = 256;  // as in transports/rabbitmq
constexpr amqp_channel_t kChannel = 1;

void Check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "rabbitmq_loop: %s failed\n", what);
  std::exit(1);
}

// Waits for one confirm; gives how many it confirms beyond those that were.
uint64_t AwaitConfirm(amqp_connection_state_t connection, uint64_t confirmed) {
  amqp_frame_t frame;
  Check(amqp_simple_wait_frame(connection, &frame) == AMQP_STATUS_OK, "waiting for a confirm");
  Check(frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == AMQP_BASIC_ACK_METHOD, "confirming");
  const auto* const ack = static_cast<const amqp_basic_ack_t*>(frame.payload.method.decoded);
  const uint64_t count = ack->multiple ? ack->delivery_tag - confirmed : 1;
  amqp_maybe_release_buffers(connection);
  return count;
}

int Run(int port, const std::string& queue, double duration) {
  const amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t* const socket = amqp_tcp_socket_new(connection);
  Check(amqp_socket_open(socket, "127.0.0.1", port) == AMQP_STATUS_OK, "connecting");
  Check(
      amqp_login(connection, "/", 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type ==
          AMQP_RESPONSE_NORMAL,
      "logging in");
  Check(amqp_channel_open(connection, kChannel) != nullptr, "opening a channel");
  Check(amqp_confirm_select(connection, kChannel) != nullptr, "asking for confirms");

  // The message that ours sends (AppendPublish() in transports/rabbitmq/amqp_frames.cc), since what a broker has to
  // read of a message is what it takes longest for.
  amqp_table_entry_t headers[] = {{amqp_cstring_bytes("eventhops"), {AMQP_FIELD_KIND_UTF8, {}}},
                                  {amqp_cstring_bytes("x-eventvirtual-tag"), {AMQP_FIELD_KIND_I64, {}}}};
  headers[0].value.value.bytes = amqp_cstring_bytes("1");
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
      .content_type = amqp_cstring_bytes("application/json"),
      .headers = {2, headers},
      .delivery_mode = AMQP_DELIVERY_NONPERSISTENT,
      .message_id = amqp_cstring_bytes("294960033cb3457f-0000"),
      .timestamp = 1700000000,
  };
  std::string text = EventText(0, false);
  char* const digits = text.data() + text.find('#') + 1;
  const amqp_bytes_t body = {text.size(), text.data()};
  const amqp_bytes_t key = amqp_cstring_bytes(queue.c_str());
  uint64_t published = 0, confirmed = 0;
  const double begin = WallSeconds();
  const double cpu = CpuSeconds();
  while (WallSeconds() < begin + duration) {
    while (published - confirmed >= kWindow) confirmed += AwaitConfirm(connection, confirmed);
    WriteDigits(published++, digits);
    headers[1].value.value.i64 = static_cast<int64_t>(published);
    Check(amqp_basic_publish(connection, kChannel, amqp_empty_bytes, key, /*mandatory=*/1, 0, &properties, body) ==
              AMQP_STATUS_OK,
          "publishing");
  }
  while (confirmed < published) confirmed += AwaitConfirm(connection, confirmed);
  std::printf("{\"events\":%llu,\"refused\":0,\"seconds\":%.6f,\"cpu\":%.6f}\n",
              static_cast<unsigned long long>(published), WallSeconds() - begin, CpuSeconds() - cpu);
  amqp_destroy_connection(connection);
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: rabbitmq_loop PORT QUEUE SECONDS\n");
    return 2;
  }
  return eventvirtual::Run(std::atoi(argv[1]), argv[2], std::atof(argv[3]));
}
