// OperatorService: what operators look at over gRPC.
#ifndef EVENTVIRTUAL_SERVER_RPC_OPERATOR_SERVICE_H_
#define EVENTVIRTUAL_SERVER_RPC_OPERATOR_SERVICE_H_

#include "eventvirtual/v1/operator.pb.h"
#include "server/durable/dead_letters.h"
#include "server/endpoint/endpoint_pool.h"
#include "server/endpoint/prober.h"
#include "server/enroll/enroller.h"
#include "server/registry/registry.h"
#include "server/rpc/calls.h"
#include "server/rpc/wire.h"
#include "transports/api/catalog.h"

namespace eventvirtual {

class OperatorService final {
 public:
  OperatorService(const Catalog& catalog, EndpointPool& pool, const Registry& registry, Prober& prober,
                  const Enroller& enroller, WireDefaults defaults, EventLimits limits = {})
      : catalog_(catalog),
        pool_(pool),
        registry_(registry),
        prober_(prober),
        enroller_(enroller),
        defaults_(defaults),
        limits_(limits) {}

  void ListTransports(UnaryCall* call, const v1::ListTransportsRequest* request, v1::ListTransportsResponse* response);
  void ListEndpoints(UnaryCall* call, const v1::ListEndpointsRequest* request, v1::ListEndpointsResponse* response);
  void ListEnrollments(UnaryCall* call, const v1::ListEnrollmentsRequest* request,
                       v1::ListEnrollmentsResponse* response);

  void ProbeSubscriber(UnaryCall* call, const v1::ProbeSubscriberRequest* request,
                       v1::ProbeSubscriberResponse* response);

  void ExplainDelivery(UnaryCall* call, const v1::ExplainDeliveryRequest* request,
                       v1::ExplainDeliveryResponse* response);

  void SetEndpointMode(UnaryCall* call, const v1::SetEndpointModeRequest* request,
                       v1::SetEndpointModeResponse* response);

  // From here on there are dead letters. Only before anything is served; outlives what is served.
  void ShowDeadLetters(DeadLetters* dead_letters) { dead_letters_ = dead_letters; }

  // FAILED_PRECONDITION where there are none: without --data_dir.
  void ListDeadLetters(UnaryCall* call, const v1::ListDeadLettersRequest* request,
                       v1::ListDeadLettersResponse* response);
  void ReplayDeadLetters(UnaryCall* call, const v1::ReplayDeadLettersRequest* request,
                         v1::ReplayDeadLettersResponse* response);
  void PurgeDeadLetters(UnaryCall* call, const v1::PurgeDeadLettersRequest* request,
                        v1::PurgeDeadLettersResponse* response);

 private:
  const Catalog& catalog_;
  EndpointPool& pool_;
  const Registry& registry_;
  Prober& prober_;
  const Enroller& enroller_;
  const WireDefaults defaults_;
  const EventLimits limits_;
  DeadLetters* dead_letters_ = nullptr;  // null: nothing is kept
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_RPC_OPERATOR_SERVICE_H_
