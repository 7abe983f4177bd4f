#include "server/admin/metrics_page.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/io/run_on_loop.h"

namespace eventvirtual {
namespace {

constexpr char kTextFormat[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace

MetricsPage::~MetricsPage() {
  RunOnLoop(loop_, [this](const std::shared_ptr<void>&) {
    mailbox_->Leave();
    timer_.reset();
    waiting_.clear();
  });
}

HttpRoute MetricsPage::route() {
  return {"GET", "/metrics", [this](const HttpRequest&, HttpReply reply) { OnRequest(std::move(reply)); }};
}

void MetricsPage::OnRequest(HttpReply reply) {
  waiting_.push_back(std::move(reply));
  if (waiting_.size() > 1) return;
  if (timer_ == nullptr) {
    timer_ = loop_.NewTimer([this] {
      AnswerAll({503, "text/plain; charset=utf-8",
                 absl::StrCat("an event loop has not answered for ", absl::FormatDuration(kPatience), "\n")});
    });
  }
  timer_->Arm(loop_.Now() + kPatience);
  if (std::exchange(asked_, true)) return;  // a loop that hung may still come
  pool_.TakeAudit(kShownEndpoints, [this, box = mailbox_](EndpointPool::Audit audit) {
    box->Post([this, audit = std::move(audit)]() mutable {
      if (durable_ == nullptr) return Answer(audit, nullptr);
      durable_->TakeAudit(kShownQueues, [this, box = mailbox_, audit = std::move(audit)](DurableAudit durable) mutable {
        box->Post([this, audit = std::move(audit), durable = std::move(durable)] { Answer(audit, &durable); });
      });
    });
  });
}

void MetricsPage::Answer(const EndpointPool::Audit& audit, const DurableAudit* durable) {
  asked_ = false;
  timer_->Cancel();
  if (!waiting_.empty()) AnswerAll({200, kTextFormat, MetricsText(sources_, audit, durable)});
}

void MetricsPage::AnswerAll(const HttpResponse& response) {
  for (HttpReply& reply : std::exchange(waiting_, {})) std::move(reply).Send(response);
}

}  // namespace eventvirtual
