#include "tests/transports/rabbitmq/rabbitmq_server.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/transports/io/loopback_listener.h"

namespace eventvirtual {
namespace {

// Whether something that speaks AMQP answers: a broker that is starting up accepts connections a little earlier.
bool Answers(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = LoopbackAddress(port);
  const timeval patience = {.tv_sec = 2, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  char byte = 0;
  const bool answers = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
                       send(fd, "AMQP\0\0\x09\x01", 8, MSG_NOSIGNAL) == 8 && recv(fd, &byte, 1, 0) == 1;
  close(fd);
  return answers;
}

std::string FindSbin() {
  const std::filesystem::path lib = "/usr/lib/rabbitmq/lib";
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(lib, error)) {
    if (std::filesystem::exists(entry.path() / "sbin/rabbitmq-server")) return (entry.path() / "sbin").string();
  }
  ADD_FAILURE() << "no rabbitmq-server under " << lib << ": install Debian's package rabbitmq-server";
  return "";
}

std::string Text(amqp_bytes_t bytes) { return std::string(static_cast<const char*>(bytes.bytes), bytes.len); }
amqp_bytes_t Bytes(const std::string& text) { return amqp_bytes_t{text.size(), const_cast<char*>(text.data())}; }

// A table of texts; a text of digits is a number.
std::vector<amqp_table_entry_t> Entries(const std::map<std::string, std::string>& texts) {
  std::vector<amqp_table_entry_t> entries;
  for (const auto& [key, value] : texts) {
    amqp_table_entry_t entry = {Bytes(key), {AMQP_FIELD_KIND_UTF8, {}}};
    if (int64_t number = 0; absl::SimpleAtoi(value, &number)) {
      entry.value.kind = AMQP_FIELD_KIND_I64;
      entry.value.value.i64 = number;
    } else {
      entry.value.value.bytes = Bytes(value);
    }
    entries.push_back(entry);
  }
  return entries;
}
amqp_table_t Table(std::vector<amqp_table_entry_t>& entries) {
  return {static_cast<int>(entries.size()), entries.data()};
}

}  // namespace

RabbitmqServer::RabbitmqServer() : port_(FreePort()), tls_port_(FreePort()), distribution_port_(FreePort()) {
  MakeCertificates(folder_);
  std::ofstream(folder_ / "plugins") << "[].\n";
  std::ofstream(folder_ / "rabbitmq.conf")
      << "listeners.tcp.1 = 127.0.0.1:" << port_ << "\nlisteners.ssl.1 = 127.0.0.1:" << tls_port_
      << "\nssl_options.cacertfile = " << folder_ / "ca.pem"
      << "\nssl_options.certfile = " << folder_ / "server.pem"
      << "\nssl_options.keyfile = " << folder_ / "server.key"
      << "\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true"
      << "\nmax_message_size = 4194304\ndisk_free_limit.absolute = 1MB\nlog.console = false\n";
  const std::string cookie = folder_ / ".erlang.cookie";
  std::ofstream(cookie) << "eventvirtual";
  chmod(cookie.c_str(), 0400);
  process_ = std::make_unique<ServerProcess>(std::vector<std::string>{"/bin/sh", FindSbin() + "/rabbitmq-server"},
                                             Environment(), folder_ / "output", [this] { return Answers(port_); });
  Ctl({"await_startup"});
}

RabbitmqServer::~RabbitmqServer() {
  if (testing::Test::HasFailure()) {
    std::cerr << ReadFile(folder_ / absl::StrCat("log/ev", port_, "@localhost.log")) << ReadFile(folder_ / "output");
  }
}

std::string RabbitmqServer::Uri(absl::string_view rest) const {
  return absl::StrCat("rabbitmq:127.0.0.1:", port_, "/", rest);
}

std::string RabbitmqServer::TlsOptions() const {
  return absl::StrCat("ca=", File("ca.pem"), "&cert=", File("client.pem"), "&key=", File("client.key"));
}

std::vector<std::string> RabbitmqServer::Environment() const {
  // No epmd, the daemon that all Erlang nodes of a host share: the port is given to both sides.
  const std::string no_epmd = absl::StrCat("-start_epmd false -erl_epmd_port ", distribution_port_);
  return {
      "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
      "LANG=C.UTF-8",
      "HOME=" + folder_ / "",
      "HOSTNAME=localhost",
      "RUNNING_UNDER_SYSTEMD=1",  // the start script becomes the server, instead of watching over it
      "RABBITMQ_CONF_ENV_FILE=/nonexistent",
      absl::StrCat("RABBITMQ_NODENAME=ev", port_, "@localhost"),
      absl::StrCat("RABBITMQ_DIST_PORT=", distribution_port_),
      "RABBITMQ_CONFIG_FILE=" + folder_ / "rabbitmq",
      "RABBITMQ_MNESIA_BASE=" + folder_ / "mnesia",
      "RABBITMQ_LOG_BASE=" + folder_ / "log",
      "RABBITMQ_ENABLED_PLUGINS_FILE=" + folder_ / "plugins",
      "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=" + no_epmd + " -kernel inet_dist_use_interface {127,0,0,1}",
      "RABBITMQ_CTL_ERL_ARGS=" + no_epmd + " -dist_listen false",
  };
}

void RabbitmqServer::Start() {
  process_->Start();
  Ctl({"await_startup"});
}

void RabbitmqServer::Ctl(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {"/bin/sh", FindSbin() + "/rabbitmqctl", "--timeout", "60"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Run(command, folder_ / "ctl", Environment());
}

RabbitmqClient::RabbitmqClient(const RabbitmqServer& server, const std::string& vhost) {
  const amqp_connection_state_t state = amqp_new_connection();
  state_ = state;
  EXPECT_EQ(amqp_socket_open(amqp_tcp_socket_new(state), "127.0.0.1", server.port()), AMQP_STATUS_OK);
  const amqp_rpc_reply_t reply =
      amqp_login(state, vhost.c_str(), 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest");
  EXPECT_EQ(reply.reply_type, AMQP_RESPONSE_NORMAL);
  amqp_channel_open(state, 1);
  Check("channel.open");
}

RabbitmqClient::~RabbitmqClient() { amqp_destroy_connection(static_cast<amqp_connection_state_t>(state_)); }

void RabbitmqClient::Check(absl::string_view what) {
  const amqp_rpc_reply_t reply = amqp_get_rpc_reply(static_cast<amqp_connection_state_t>(state_));
  EXPECT_EQ(reply.reply_type, AMQP_RESPONSE_NORMAL) << what << ": " << amqp_error_string2(reply.library_error);
}

void RabbitmqClient::DeclareQueue(const std::string& name, bool durable,
                                  const std::map<std::string, std::string>& arguments) {
  std::vector<amqp_table_entry_t> entries = Entries(arguments);
  amqp_queue_declare(static_cast<amqp_connection_state_t>(state_), 1, Bytes(name), 0, durable, 0, 0, Table(entries));
  Check("queue.declare " + name);
}

void RabbitmqClient::DeclareExchange(const std::string& name, const std::string& type) {
  amqp_exchange_declare(static_cast<amqp_connection_state_t>(state_), 1, Bytes(name), Bytes(type), 0, 0, 0, 0,
                        amqp_empty_table);
  Check("exchange.declare " + name);
}

void RabbitmqClient::DeleteExchange(const std::string& name) {
  amqp_exchange_delete(static_cast<amqp_connection_state_t>(state_), 1, Bytes(name), 0);
  Check("exchange.delete " + name);
}

void RabbitmqClient::Bind(const std::string& queue, const std::string& exchange, const std::string& routing_key,
                          const std::map<std::string, std::string>& arguments) {
  std::vector<amqp_table_entry_t> entries = Entries(arguments);
  amqp_queue_bind(static_cast<amqp_connection_state_t>(state_), 1, Bytes(queue), Bytes(exchange), Bytes(routing_key),
                  Table(entries));
  Check("queue.bind " + queue);
}

std::vector<RabbitmqClient::Received> RabbitmqClient::Drain(const std::string& queue) {
  const auto state = static_cast<amqp_connection_state_t>(state_);
  std::vector<Received> all;
  while (true) {
    const amqp_rpc_reply_t reply = amqp_basic_get(state, 1, Bytes(queue), /*no_ack=*/1);
    EXPECT_EQ(reply.reply_type, AMQP_RESPONSE_NORMAL) << "basic.get " << queue;
    if (reply.reply_type != AMQP_RESPONSE_NORMAL || reply.reply.id != AMQP_BASIC_GET_OK_METHOD) return all;
    const auto& got = *static_cast<amqp_basic_get_ok_t*>(reply.reply.decoded);
    Received received = {.exchange = Text(got.exchange), .routing_key = Text(got.routing_key)};
    amqp_message_t message;
    EXPECT_EQ(amqp_read_message(state, 1, &message, 0).reply_type, AMQP_RESPONSE_NORMAL);
    const amqp_basic_properties_t& properties = message.properties;
    received.body = Text(message.body);
    if (properties._flags & AMQP_BASIC_CONTENT_TYPE_FLAG) received.content_type = Text(properties.content_type);
    if (properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG) received.message_id = Text(properties.message_id);
    if (properties._flags & AMQP_BASIC_DELIVERY_MODE_FLAG) received.delivery_mode = properties.delivery_mode;
    if (properties._flags & AMQP_BASIC_TIMESTAMP_FLAG) received.timestamp = properties.timestamp;
    for (int i = 0; i < properties.headers.num_entries; ++i) {
      const amqp_table_entry_t& entry = properties.headers.entries[i];
      if (entry.value.kind == AMQP_FIELD_KIND_UTF8) received.headers[Text(entry.key)] = Text(entry.value.value.bytes);
    }
    all.push_back(std::move(received));
    amqp_destroy_message(&message);
    amqp_maybe_release_buffers(state);
  }
}

}  // namespace eventvirtual
