// Whatever comes to the management interface, it answers with one JSON-RPC object that has the request's id, within the
// bytes that its carrier takes, or not at all to a notification.
#include <simdjson.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/log/log.h"
#include "server/mi/mi_commands.h"
#include "tests/server/dispatch/world.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr size_t kRoomy = 1 << 20;
constexpr size_t kTight = 300;  // any error fits, besides the id

RegistryLimits FewOfEach() {
  RegistryLimits limits;
  limits.max_subscriptions = 4;
  limits.max_events = 4;
  return limits;
}

// The "id" of the text as JSON, read by another parser; "": it has none.
std::string IdOf(absl::string_view text, simdjson::error_code* error) {
  simdjson::dom::parser parser;
  simdjson::dom::element root, id;
  *error = parser.parse(text.data(), text.size()).get(root);
  if (*error != simdjson::SUCCESS || !root.is_object() || root["id"].get(id) != simdjson::SUCCESS) return "";
  return simdjson::minify(id);
}

// True: the request may have come as far as its command.
bool CheckAnswer(absl::string_view request, const MiAnswer& answer, size_t max_answer) {
  simdjson::error_code error;
  const std::string sent_id = IdOf(request, &error);
  EV_CHECK(answer.unreadable == (error != simdjson::SUCCESS));
  EV_CHECK(answer.text.empty() == answer.id.empty());
  if (answer.text.empty()) {
    EV_CHECK(sent_id.empty());
    return true;
  }
  EV_CHECK(answer.text.size() <= max_answer + answer.id.size() + 100);
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  EV_CHECK(parser.parse(answer.text).get(object) == simdjson::SUCCESS);
  EV_CHECK(object.size() == 3);
  std::string_view version;
  EV_CHECK(object["jsonrpc"].get(version) == simdjson::SUCCESS && version == "2.0");
  simdjson::dom::element id, result, failure;
  EV_CHECK(object["id"].get(id) == simdjson::SUCCESS);
  EV_CHECK(simdjson::minify(id) == answer.id);
  EV_CHECK(answer.id == sent_id || answer.id == "null");
  const bool failed = object["error"].get(failure) == simdjson::SUCCESS;
  EV_CHECK(failed != (object["result"].get(result) == simdjson::SUCCESS));
  if (!failed) {
    EV_CHECK(answer.id == sent_id);
    return true;
  }
  int64_t code = 0;
  std::string_view message;
  EV_CHECK(failure["code"].get(code) == simdjson::SUCCESS && code != 0);
  EV_CHECK(failure["message"].get(message) == simdjson::SUCCESS && !message.empty());
  EV_CHECK((code == -32700) == answer.unreadable);
  return code != -32700 && code != -32600 && code != -32601;
}

// One subscription, and who asks.
struct Scene {
  World world{{}, FewOfEach()};
  MiCommands commands{world.registry, world.dispatcher, {}};
  Scene() { world.Subscribe("E", "virtual:FAILOVER fake:a fake:b"); }
};

}  // namespace
}  // namespace eventvirtual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace eventvirtual;  // NOLINT: this is the program
  SetLogLevel(LogLevel::kError);
  const absl::string_view request(reinterpret_cast<const char*>(data), size);
  static Scene* scene = nullptr;  // a new one for each request, unless the last one has changed nothing
  if (scene == nullptr) scene = new Scene();
  const bool reached = CheckAnswer(request, scene->commands.Handle(request, kRoomy), kRoomy);
  if (!reached) return 0;
  // Once more: what the first has made or ended is there or gone.
  CheckAnswer(request, scene->commands.Handle(request, kRoomy), kRoomy);
  CheckAnswer(request, scene->commands.Handle(request, kTight), kTight);
  delete std::exchange(scene, nullptr);
  return 0;
}
