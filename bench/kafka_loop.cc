// What our kafka transport cannot beat by much: a loop over librdkafka that produces, as many events unreported at a
// time as our link has and with the settings that it has. And a broker for both: librdkafka's mock cluster, since a
// real one, a JVM, would take more of two cores than what is measured.
//
//   kafka_loop broker                      prints `{"listening":["127.0.0.1:port"]}`; on SIGTERM how much it has stored
//   kafka_loop produce ADDRESS SECONDS     prints one JSON object when all is reported
//
// The topic is "bench", of one partition.
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "bench/bench_event.h"
#include "bench/measure.h"

namespace eventvirtual {
namespace {

constexpr char kTopic[] = "bench";
constexpr uint64_t kWindow = 256;  // as in transports/kafka
constexpr int kPatienceMs = 10000;

[[noreturn]] void Die(const char* what) {
  std::fprintf(stderr, "kafka_loop: %s failed\n", what);
  std::exit(1);
}

rd_kafka_t* NewClient(rd_kafka_type_t type, const std::string& address, uint64_t* reported) {
  // As transports/kafka/kafka_address.cc has them.
  const std::pair<const char*, std::string> settings[] = {
      {"bootstrap.servers", address},
      {"acks", "all"},
      {"enable.idempotence", "true"},
      {"linger.ms", "0"},
      {"log_level", "0"},
      {"queue.buffering.max.messages", std::to_string(kWindow)},
      {"socket.nagle.disable", "true"},
  };
  rd_kafka_conf_t* const conf = rd_kafka_conf_new();
  for (const auto& [name, value] : settings) {
    if (rd_kafka_conf_set(conf, name, value.c_str(), nullptr, 0) != RD_KAFKA_CONF_OK) Die(name);
  }
  rd_kafka_conf_set_opaque(conf, reported);
  if (reported != nullptr) {
    rd_kafka_conf_set_dr_msg_cb(conf, [](rd_kafka_t*, const rd_kafka_message_t* report, void* count) {
      if (report->err != RD_KAFKA_RESP_ERR_NO_ERROR) Die("storing an event");
      ++*static_cast<uint64_t*>(count);
    });
  }
  rd_kafka_t* const client = rd_kafka_new(type, conf, nullptr, 0);
  if (client == nullptr) Die("rd_kafka_new");
  return client;
}

int Serve() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  rd_kafka_t* const owner = NewClient(RD_KAFKA_PRODUCER, "127.0.0.1:1", nullptr);
  rd_kafka_mock_cluster_t* const cluster = rd_kafka_mock_cluster_new(owner, 1);
  if (rd_kafka_mock_topic_create(cluster, kTopic, 1, 1) != RD_KAFKA_RESP_ERR_NO_ERROR) Die("creating a topic");
  const std::string address = rd_kafka_mock_cluster_bootstraps(cluster);
  std::printf("{\"listening\":[\"%s\"]}\n", address.c_str());
  std::fflush(stdout);
  int signal_number;
  sigwait(&stop, &signal_number);
  rd_kafka_t* const reader = NewClient(RD_KAFKA_CONSUMER, address, nullptr);
  int64_t first = 0, end = 0;
  if (rd_kafka_query_watermark_offsets(reader, kTopic, 0, &first, &end, kPatienceMs) != RD_KAFKA_RESP_ERR_NO_ERROR) {
    Die("asking for the end of the topic");
  }
  std::printf("{\"received\":%lld}\n", static_cast<long long>(end));
  rd_kafka_destroy(reader);
  rd_kafka_mock_cluster_destroy(cluster);
  rd_kafka_destroy(owner);
  return 0;
}

int Produce(const std::string& address, double duration) {
  uint64_t produced = 0, reported = 0;
  rd_kafka_t* const client = NewClient(RD_KAFKA_PRODUCER, address, &reported);
  rd_kafka_topic_t* const topic = rd_kafka_topic_new(client, kTopic, nullptr);
  const struct rd_kafka_metadata* metadata = nullptr;
  if (rd_kafka_metadata(client, 0, topic, &metadata, kPatienceMs) != RD_KAFKA_RESP_ERR_NO_ERROR)
    Die("finding a leader");
  rd_kafka_metadata_destroy(metadata);
  std::string text = EventText(0, false);
  char* const digits = text.data() + text.find('#') + 1;
  const double begin = WallSeconds();
  const double cpu = CpuSeconds();
  while (WallSeconds() < begin + duration) {
    while (produced - reported >= kWindow) rd_kafka_poll(client, 100);
    WriteDigits(produced++, digits);
    // The record that ours sends (KafkaHeadersOf() in transports/kafka/kafka_record.cc).
    rd_kafka_headers_t* const headers = rd_kafka_headers_new(2);
    rd_kafka_header_add(headers, "event-id", -1, "294960033cb3457f-0000", -1);
    rd_kafka_header_add(headers, "eventhops", -1, "1", -1);
    if (rd_kafka_producev(client, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                          RD_KAFKA_V_VALUE(text.data(), text.size()), RD_KAFKA_V_HEADERS(headers),
                          RD_KAFKA_V_END) != RD_KAFKA_RESP_ERR_NO_ERROR) {
      Die("producing");
    }
  }
  while (reported < produced) rd_kafka_poll(client, 100);
  std::printf("{\"events\":%llu,\"refused\":0,\"seconds\":%.6f,\"cpu\":%.6f}\n",
              static_cast<unsigned long long>(produced), WallSeconds() - begin, CpuSeconds() - cpu);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(client);
  return 0;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "broker") == 0) return eventvirtual::Serve();
  if (argc == 4 && std::strcmp(argv[1], "produce") == 0) return eventvirtual::Produce(argv[2], std::atof(argv[3]));
  std::fprintf(stderr, "usage: kafka_loop broker | produce ADDRESS SECONDS\n");
  return 2;
}
