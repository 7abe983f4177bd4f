#include "tests/transports/rabbitmq/rabbitmq_server.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);
constexpr int kPauseMs = 50;  // between two tries to reach a broker that starts

std::string MakeFolder() {
  char name[] = "/tmp/evXXXXXX";
  EXPECT_NE(mkdtemp(name), nullptr);
  return name;
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Below the range from which the system gives ports to clients: while the broker is down, none of them may take its
// port.
uint16_t FreePort() {
  std::random_device random;
  while (true) {
    const auto port = static_cast<uint16_t>(std::uniform_int_distribution<>(10000, 32000)(random));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in address = Loopback(port);
    const bool free = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    close(fd);
    if (free) return port;
  }
}

// Whether something that speaks AMQP answers: a broker that is starting up accepts connections a little earlier.
bool Answers(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(port);
  const timeval patience = {.tv_sec = 2, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  char byte = 0;
  const bool answers = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
                       send(fd, "AMQP\0\0\x09\x01", 8, MSG_NOSIGNAL) == 8 && recv(fd, &byte, 1, 0) == 1;
  close(fd);
  return answers;
}

// Waits until the process has ended and reaps it; false when it still runs after `timeout_ms`.
bool Ended(pid_t pid, int timeout_ms) {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  pollfd ended = {.fd = fd, .events = POLLIN};
  const bool has_ended = poll(&ended, 1, timeout_ms) == 1;
  close(fd);
  if (has_ended) waitpid(pid, nullptr, 0);
  return has_ended;
}

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
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

}  // namespace

RabbitmqServer::RabbitmqServer() : folder_(MakeFolder()), port_(FreePort()), distribution_port_(FreePort()) {
  std::ofstream(absl::StrCat(folder_, "/plugins")) << "[].\n";
  std::ofstream(absl::StrCat(folder_, "/rabbitmq.conf"))
      << "listeners.tcp.1 = 127.0.0.1:" << port_ << "\ndisk_free_limit.absolute = 1MB\nlog.console = false\n";
  const std::string cookie = absl::StrCat(folder_, "/.erlang.cookie");
  std::ofstream(cookie) << "eventvirtual";
  chmod(cookie.c_str(), 0400);
  Start();
}

RabbitmqServer::~RabbitmqServer() {
  if (testing::Test::HasFailure()) {
    std::cerr << ReadFile(absl::StrCat(folder_, "/log/ev", port_, "@localhost.log")) << ReadFile(folder_ + "/output");
  }
  Kill();
  std::error_code error;
  std::filesystem::remove_all(folder_, error);
}

std::string RabbitmqServer::Uri(absl::string_view rest) const {
  return absl::StrCat("rabbitmq:127.0.0.1:", port_, "/", rest);
}

std::vector<std::string> RabbitmqServer::Environment() const {
  // No epmd, the daemon that all Erlang nodes of a host share: the port is given to both sides.
  const std::string no_epmd = absl::StrCat("-start_epmd false -erl_epmd_port ", distribution_port_);
  return {
      "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
      "LANG=C.UTF-8",
      "HOME=" + folder_,
      "HOSTNAME=localhost",
      "RUNNING_UNDER_SYSTEMD=1",  // the start script becomes the server, instead of watching over it
      "RABBITMQ_CONF_ENV_FILE=/nonexistent",
      absl::StrCat("RABBITMQ_NODENAME=ev", port_, "@localhost"),
      absl::StrCat("RABBITMQ_DIST_PORT=", distribution_port_),
      "RABBITMQ_CONFIG_FILE=" + folder_ + "/rabbitmq",
      "RABBITMQ_MNESIA_BASE=" + folder_ + "/mnesia",
      "RABBITMQ_LOG_BASE=" + folder_ + "/log",
      "RABBITMQ_ENABLED_PLUGINS_FILE=" + folder_ + "/plugins",
      "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=" + no_epmd + " -kernel inet_dist_use_interface {127,0,0,1}",
      "RABBITMQ_CTL_ERL_ARGS=" + no_epmd + " -dist_listen false",
  };
}

pid_t RabbitmqServer::Spawn(const std::vector<std::string>& command, const std::string& output) const {
  std::vector<std::string> environment = Environment();
  std::vector<std::string> words = {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--", "/bin/sh"};
  words.insert(words.end(), command.begin(), command.end());
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& entry : environment) envp.push_back(entry.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t pid = -1;
  EXPECT_EQ(posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), envp.data()), 0);
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

void RabbitmqServer::Start() {
  ASSERT_EQ(pid_, -1) << "it runs already";
  const std::string output = folder_ + "/output";
  pid_ = Spawn({FindSbin() + "/rabbitmq-server"}, output);
  ASSERT_GT(pid_, 0);
  const absl::Time give_up = absl::Now() + kPatience;
  while (!Answers(port_)) {
    if (Ended(pid_, kPauseMs)) {
      pid_ = -1;
      FAIL() << "rabbitmq-server ended while it started:\n" << ReadFile(output);
    }
    ASSERT_LT(absl::Now(), give_up) << "rabbitmq-server does not come up:\n" << ReadFile(output);
  }
  Ctl({"await_startup"});
}

void RabbitmqServer::Stop() {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  ASSERT_TRUE(Ended(pid_, static_cast<int>(absl::ToInt64Milliseconds(kPatience)))) << "rabbitmq-server does not stop";
  pid_ = -1;
}

void RabbitmqServer::Kill() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void RabbitmqServer::Pause() { EXPECT_EQ(kill(pid_, SIGSTOP), 0); }
void RabbitmqServer::Continue() { EXPECT_EQ(kill(pid_, SIGCONT), 0); }

void RabbitmqServer::Ctl(const std::vector<std::string>& arguments) {
  const std::string output = folder_ + "/ctl";
  std::vector<std::string> command = {FindSbin() + "/rabbitmqctl", "--timeout", "60"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const pid_t pid = Spawn(command, output);
  ASSERT_GT(pid, 0);
  int status = -1;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0) << "rabbitmqctl " << absl::StrJoin(arguments, " ") << ":\n" << ReadFile(output);
}

RabbitmqClient::RabbitmqClient(const RabbitmqServer& server) {
  const amqp_connection_state_t state = amqp_new_connection();
  state_ = state;
  EXPECT_EQ(amqp_socket_open(amqp_tcp_socket_new(state), "127.0.0.1", server.port()), AMQP_STATUS_OK);
  const amqp_rpc_reply_t reply = amqp_login(state, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest");
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
  std::vector<amqp_table_entry_t> entries;
  for (const auto& [key, value] : arguments) {
    amqp_table_entry_t entry = {Bytes(key), {AMQP_FIELD_KIND_UTF8, {}}};
    if (int64_t number = 0; absl::SimpleAtoi(value, &number)) {
      entry.value.kind = AMQP_FIELD_KIND_I64;
      entry.value.value.i64 = number;
    } else {
      entry.value.value.bytes = Bytes(value);
    }
    entries.push_back(entry);
  }
  amqp_queue_declare(static_cast<amqp_connection_state_t>(state_), 1, Bytes(name), 0, durable, 0, 0,
                     {static_cast<int>(entries.size()), entries.data()});
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

void RabbitmqClient::Bind(const std::string& queue, const std::string& exchange, const std::string& routing_key) {
  amqp_queue_bind(static_cast<amqp_connection_state_t>(state_), 1, Bytes(queue), Bytes(exchange), Bytes(routing_key),
                  amqp_empty_table);
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
