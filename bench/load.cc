// Raises events and subscribes as fast as the service answers, and prints one JSON object.
//
//   load raise      Raise, --outstanding calls at a time
//   load stream     RaiseStream, --batch events per message
//                   with --rate, each due at its time, stamped with it, and no delivery waited for
//   load first      connects, subscribes --socket and raises one event that is delivered: seconds
//   load subscribe  Subscribe to --count events, the same again (refresh), Unsubscribe; --outstanding at a time
#include <grpcpp/create_channel.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/synchronization/mutex.h"
#include "bench/bench_event.h"
#include "bench/measure.h"
#include "eventvirtual/v1/event.grpc.pb.h"
#include "eventvirtual/v1/subscription.grpc.pb.h"

ABSL_FLAG(std::string, server, "127.0.0.1:7060", "where gRPC is served");
ABSL_FLAG(double, seconds, 2, "raise, stream: how long");
ABSL_FLAG(int, outstanding, 64, "raise, subscribe: calls at a time");
ABSL_FLAG(std::string, wait, "accepted", "raise: accepted or delivered");
ABSL_FLAG(int, batch, 64, "stream: events per message");
ABSL_FLAG(double, rate, 0, "stream: events per second; 0: as fast as it goes");
ABSL_FLAG(bool, vary, false, "events of 16 lengths instead of one");
ABSL_FLAG(int, count, 10000, "subscribe: how many");
ABSL_FLAG(std::string, socket, "udp:127.0.0.1:9", "subscribe, first: the subscriber");

namespace eventvirtual {
namespace {

// A stream is not paced by WAIT_ACCEPTED, so every so many batches one waits until it is delivered, and no more than
// two of those are open: what is on its way stays far below the bound of a queue.
constexpr uint64_t kWaitEvery = 16;
constexpr int kWaitsOpen = 2;

void Fill(uint64_t number, bool vary, v1::Event* event) {
  if (event->params_size() == 0) {
    event->set_name(kEvent);
    event->add_params()->set_name("seq");
    event->mutable_params(0)->set_string_value(SequenceText(0));
    event->add_params()->set_name("callid");
    event->mutable_params(1)->set_string_value(kCallId);
    event->add_params()->set_name("code");
    event->mutable_params(2)->set_int_value(200);
  }
  WriteDigits(number, &(*event->mutable_params(0)->mutable_string_value())[1]);
  if (vary) event->mutable_params(1)->mutable_string_value()->assign(kCallId, CallIdSize(number, true));
}

void Stamp(double due, v1::Event* event) {
  std::string& text = *event->mutable_params(0)->mutable_string_value();
  text.resize(1 + kDigits);
  text.resize(1 + kDigits + 1 + kStampDigits, '~');
  WriteDigits(static_cast<uint64_t>(due * 1e9), &text[1 + kDigits + 1], kStampDigits);
}

std::shared_ptr<grpc::Channel> Connect() {
  const auto channel = grpc::CreateChannel(absl::GetFlag(FLAGS_server), grpc::InsecureChannelCredentials());
  if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(10))) {
    std::fprintf(stderr, "load: nobody answers at %s\n", absl::GetFlag(FLAGS_server).c_str());
    std::exit(1);
  }
  return channel;
}

void Print(uint64_t events, uint64_t refused, double seconds, Latencies& latencies) {
  std::printf(
      "{\"events\":%llu,\"refused\":%llu,\"seconds\":%.6f,\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"cpu\":%.6f}\n",
      static_cast<unsigned long long>(events), static_cast<unsigned long long>(refused), seconds,
      latencies.Quantile(0.5), latencies.Quantile(0.99), latencies.Quantile(0.999), CpuSeconds());
}

// One unary call at a time, started again and again.
template <typename Request, typename Response>
struct Call {
  Request request;
  Response response;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader;
  grpc::Status status;
  double begin = 0;
};

// Keeps `outstanding` calls open on one completion queue. `prepare(call)` fills the request and gives the reader, or
// null when no more are wanted; `ended(call)` sees the answer. Returns when all have ended.
template <typename Request, typename Response, typename Prepare, typename Ended>
void Pump(int outstanding, Prepare prepare, Ended ended) {
  grpc::CompletionQueue queue;
  std::vector<Call<Request, Response>> calls(static_cast<size_t>(outstanding));
  int open = 0;
  const auto start = [&](Call<Request, Response>& call) {
    call.context = std::make_unique<grpc::ClientContext>();
    call.begin = WallSeconds();
    call.reader = prepare(call, &queue);
    if (call.reader == nullptr) return;
    ++open;
    call.reader->StartCall();
    call.reader->Finish(&call.response, &call.status, &call);
  };
  for (auto& call : calls) start(call);
  void* tag;
  bool ok;
  while (open > 0 && queue.Next(&tag, &ok)) {
    --open;
    auto& call = *static_cast<Call<Request, Response>*>(tag);
    ended(call);
    start(call);
  }
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
}

int Raise() {
  const auto stub = v1::EventService::NewStub(Connect());
  const bool vary = absl::GetFlag(FLAGS_vary);
  const auto wait = absl::GetFlag(FLAGS_wait) == "delivered" ? v1::WAIT_DELIVERED : v1::WAIT_ACCEPTED;
  using RaiseCall = Call<v1::RaiseRequest, v1::RaiseResponse>;
  uint64_t raised = 0, refused = 0;
  Latencies latencies;
  const double begin = WallSeconds();
  const double end = begin + absl::GetFlag(FLAGS_seconds);
  Pump<v1::RaiseRequest, v1::RaiseResponse>(
      absl::GetFlag(FLAGS_outstanding),
      [&](RaiseCall& call, grpc::CompletionQueue* queue) -> decltype(call.reader) {
        if (call.begin >= end) return nullptr;
        Fill(raised++, vary, call.request.mutable_event());
        call.request.set_wait(wait);
        return stub->PrepareAsyncRaise(call.context.get(), call.request, queue);
      },
      [&](RaiseCall& call) {
        latencies.Add(WallSeconds() - call.begin);
        bool ok = call.status.ok();
        for (const auto& delivery : call.response.deliveries()) {
          ok = ok && delivery.outcome() == v1::DeliveryOutcome::OUTCOME_DELIVERED;
        }
        if (!ok) ++refused;
      });
  Print(raised, refused, WallSeconds() - begin, latencies);
  return 0;
}

int RaiseStream() {
  const auto stub = v1::EventService::NewStub(Connect());
  const int batch = absl::GetFlag(FLAGS_batch);
  const bool vary = absl::GetFlag(FLAGS_vary);
  const double rate = absl::GetFlag(FLAGS_rate);
  grpc::ClientContext context;
  const auto stream = stub->RaiseStream(&context);
  std::mutex mutex;
  std::condition_variable answered;
  int waits_open = 0;
  uint64_t batches_open = 0;
  uint64_t refused = 0;
  bool broken = false;
  std::thread reader([&] {
    v1::RaiseStreamResponse response;
    while (stream->Read(&response)) {
      const std::lock_guard<std::mutex> lock(mutex);
      refused += static_cast<uint64_t>(response.failures_size());
      --batches_open;
      if (rate == 0 && response.sequence() % kWaitEvery == 0) --waits_open;
      answered.notify_one();
    }
    const std::lock_guard<std::mutex> lock(mutex);
    broken = true;
    answered.notify_one();
  });

  v1::RaiseStreamRequest request;
  for (int i = 0; i < batch; ++i) request.add_events();
  uint64_t raised = 0;
  const double begin = WallSeconds();
  const double end = begin + absl::GetFlag(FLAGS_seconds);
  for (uint64_t sequence = 1; WallSeconds() < end; ++sequence) {
    double due = 0;
    if (rate > 0) {
      due = begin + static_cast<double>(raised) / rate;
      std::this_thread::sleep_for(std::chrono::duration<double>(due - WallSeconds()));
    }
    for (int i = 0; i < batch; ++i) {
      Fill(raised++, vary, request.mutable_events(i));
      if (rate > 0) Stamp(due, request.mutable_events(i));
    }
    const bool waits = rate == 0 && sequence % kWaitEvery == 0;
    request.set_sequence(sequence);
    request.set_wait(waits ? v1::WAIT_DELIVERED : v1::WAIT_ACCEPTED);
    {
      std::unique_lock<std::mutex> lock(mutex);
      answered.wait(lock,
                    [&] { return broken || ((!waits || waits_open < kWaitsOpen) && batches_open < 2 * kWaitEvery); });
      if (broken) break;
      ++batches_open;
      if (waits) ++waits_open;
    }
    if (!stream->Write(request)) break;
  }
  stream->WritesDone();
  reader.join();
  const grpc::Status status = stream->Finish();
  if (!status.ok()) {
    std::fprintf(stderr, "load: the stream broke: %s\n", status.error_message().c_str());
    return 1;
  }
  Latencies none;
  Print(raised, refused, WallSeconds() - begin, none);
  return 0;
}

int First() {
  const double begin = WallSeconds();
  const auto channel = Connect();
  v1::SubscribeRequest subscribe;
  v1::SubscribeResponse subscribed;
  subscribe.mutable_subscription()->set_event(kEvent);
  subscribe.mutable_subscription()->set_socket(absl::GetFlag(FLAGS_socket));
  subscribe.mutable_subscription()->mutable_ttl()->set_seconds(3600);
  grpc::ClientContext subscribe_context;
  grpc::Status status =
      v1::SubscriptionService::NewStub(channel)->Subscribe(&subscribe_context, subscribe, &subscribed);
  v1::RaiseRequest raise;
  v1::RaiseResponse raised;
  Fill(0, false, raise.mutable_event());
  raise.set_wait(v1::WAIT_DELIVERED);
  grpc::ClientContext raise_context;
  if (status.ok()) status = v1::EventService::NewStub(channel)->Raise(&raise_context, raise, &raised);
  const double seconds = WallSeconds() - begin;
  if (!status.ok() || raised.deliveries_size() != 1 ||
      raised.deliveries(0).outcome() != v1::DeliveryOutcome::OUTCOME_DELIVERED) {
    std::fprintf(stderr, "load: the first event was not delivered: %s\n", status.error_message().c_str());
    return 1;
  }
  std::printf("{\"seconds\":%.6f}\n", seconds);
  return 0;
}

int Subscribe() {
  const auto stub = v1::SubscriptionService::NewStub(Connect());
  const int count = absl::GetFlag(FLAGS_count);
  const std::string socket = absl::GetFlag(FLAGS_socket);
  std::vector<std::string> names;
  uint64_t failed = 0;
  const auto subscribe = [&] {
    int next = 0;
    names.clear();
    const double begin = WallSeconds();
    using SubscribeCall = Call<v1::SubscribeRequest, v1::SubscribeResponse>;
    Pump<v1::SubscribeRequest, v1::SubscribeResponse>(
        absl::GetFlag(FLAGS_outstanding),
        [&](SubscribeCall& call, grpc::CompletionQueue* queue) -> decltype(call.reader) {
          if (next == count) return nullptr;
          v1::Subscription& subscription = *call.request.mutable_subscription();
          subscription.set_event("E_BENCH_" + std::to_string(next++));
          subscription.set_socket(socket);
          subscription.mutable_ttl()->set_seconds(3600);
          return stub->PrepareAsyncSubscribe(call.context.get(), call.request, queue);
        },
        [&](SubscribeCall& call) {
          if (!call.status.ok()) ++failed;
          names.push_back(call.response.subscription().name());
        });
    return WallSeconds() - begin;
  };
  const double fresh = subscribe();
  const double refresh = subscribe();
  size_t next = 0;
  const double begin = WallSeconds();
  using EndCall = Call<v1::UnsubscribeRequest, v1::UnsubscribeResponse>;
  Pump<v1::UnsubscribeRequest, v1::UnsubscribeResponse>(
      absl::GetFlag(FLAGS_outstanding),
      [&](EndCall& call, grpc::CompletionQueue* queue) -> decltype(call.reader) {
        if (next == names.size()) return nullptr;
        call.request.set_name(names[next++]);
        return stub->PrepareAsyncUnsubscribe(call.context.get(), call.request, queue);
      },
      [&](EndCall& call) {
        if (!call.status.ok()) ++failed;
      });
  const double ended = WallSeconds() - begin;
  std::printf("{\"count\":%d,\"failed\":%llu,\"subscribe\":%.6f,\"refresh\":%.6f,\"unsubscribe\":%.6f}\n", count,
              static_cast<unsigned long long>(failed), fresh, refresh, ended);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace eventvirtual

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  const std::vector<char*> words = absl::ParseCommandLine(argc, argv);
  const std::string mode = words.size() == 2 ? words[1] : "";
  if (mode == "raise") return eventvirtual::Raise();
  if (mode == "stream") return eventvirtual::RaiseStream();
  if (mode == "first") return eventvirtual::First();
  if (mode == "subscribe") return eventvirtual::Subscribe();
  std::fprintf(stderr, "usage: load raise|stream|first|subscribe [--server=ADDRESS …]; see --help\n");
  return 2;
}
