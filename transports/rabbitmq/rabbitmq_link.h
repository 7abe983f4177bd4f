// RabbitmqLink: one connection to an AMQP 0-9-1 broker.
#ifndef EVENTVIRTUAL_TRANSPORTS_RABBITMQ_RABBITMQ_LINK_H_
#define EVENTVIRTUAL_TRANSPORTS_RABBITMQ_RABBITMQ_LINK_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "transports/api/transport.h"
#include "transports/io/byte_stream.h"
#include "transports/io/mailbox.h"
#include "transports/io/stream_connector.h"
#include "transports/io/worker.h"
#include "transports/rabbitmq/amqp_frames.h"
#include "transports/rabbitmq/broker_address.h"

namespace eventvirtual {

// Publishes on one channel with confirms. Everything runs on the loop, but that a Worker reads what TLS needs of files.
// librabbitmq encodes and decodes; its connections, those with TLS too, block and are not used.
class RabbitmqLink final : public Link {
 public:
  RabbitmqLink(BrokerAddress address, Loop& loop, Host& host);
  ~RabbitmqLink() override;
  void Send(absl::Span<Parcel> parcels) override;

 private:
  // The connection
  void PrepareTls();
  void Connect();
  void OnConnected(absl::StatusOr<int> fd);
  void OnTick();
  void Close(absl::Status why);
  void Write();
  void Read();
  void TakeIn(absl::string_view bytes);
  void Lost(const absl::Status& how);
  void Confused(absl::string_view what);
  absl::Status Named(const absl::Status& status) const;

  // What the broker says
  void OnMethod(amqp_method_number_t id, void* decoded);
  void OnReturned(const amqp_basic_properties_t& properties);
  void OnConfirm(uint64_t tag, bool multiple, const absl::Status& outcome);
  void OnAlarm(absl::string_view reason);
  void EndUpTo(uint64_t tag, const absl::Status& outcome);
  absl::Status BrokerError(int code, absl::string_view text) const;
  void Tune(const amqp_connection_tune_t& tune);
  void OpenChannel();

  const BrokerAddress address_;
  const std::string name_;  // masked
  Loop& loop_;
  Host& host_;
  const std::shared_ptr<Mailbox> box_ = std::make_shared<Mailbox>(loop_);
  std::unique_ptr<Worker> reader_;
  TlsContext tls_;  // null: no TLS
  std::unique_ptr<StreamConnector> connector_;
  std::unique_ptr<ByteStream> stream_;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> tick_;
  absl::Time heard_;  // when the broker last said something
  absl::Status closed_;
  bool ready_ = false;
  std::string alarm_;  // not empty: the broker blocks publishers, and why
  uint32_t frame_max_ = kMaxAmqpFrame;

  AmqpFrameReader frames_;
  std::string out_;       // at most a window of messages, a heartbeat and a few methods
  size_t out_start_ = 0;  // what stands before it has been taken by the stream

  uint64_t last_tag_ = 0;  // delivery tag of the last message sent on this channel
  absl::btree_map<uint64_t, Completion> unconfirmed_;
  std::string return_reason_;  // between a basic.return and the properties of its message
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_RABBITMQ_RABBITMQ_LINK_H_
