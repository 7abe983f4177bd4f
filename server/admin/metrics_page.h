// MetricsPage: /metrics.
#ifndef EVENTVIRTUAL_SERVER_ADMIN_METRICS_PAGE_H_
#define EVENTVIRTUAL_SERVER_ADMIN_METRICS_PAGE_H_

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "server/durable/durable_delivery.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/http/http_server.h"
#include "server/metrics/metrics.h"
#include "transports/api/loop.h"
#include "transports/io/mailbox.h"

namespace eventvirtual {

// Asks the endpoints' loops for what they know, then writes the metrics. Who asks meanwhile gets the same. On a loop on
// which no event waits.
class MetricsPage {
 public:
  // A loop that has not answered for so long hangs: 503, instead of numbers that are old.
  static constexpr absl::Duration kPatience = absl::Seconds(5);

  // All outlive it; `durable` is null where nothing is durable.
  MetricsPage(const MetricSources& sources, EndpointPool& pool, DurableDelivery* durable, Loop& loop)
      : sources_(sources), pool_(pool), durable_(durable), loop_(loop) {}
  ~MetricsPage();  // not on the loop, which must run; after the server that has its route

  HttpRoute route();  // outlived by this

 private:
  void OnRequest(HttpReply reply);
  void Answer(const EndpointPool::Audit& audit, const DurableAudit* durable);
  void AnswerAll(const HttpResponse& response);

  const MetricSources sources_;
  EndpointPool& pool_;
  DurableDelivery* const durable_;
  Loop& loop_;
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>(loop_);

  // On the loop.
  std::vector<HttpReply> waiting_;
  bool asked_ = false;  // the pool, or who keeps durable events, will answer
  std::unique_ptr<Loop::Timer> timer_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ADMIN_METRICS_PAGE_H_
