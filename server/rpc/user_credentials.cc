#include "server/rpc/user_credentials.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>
#include <grpcpp/security/auth_metadata_processor.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "transports/api/mutex.h"

namespace eventvirtual {
namespace {

// gRPC asks it at the beginning of each call, with what is known of the connection, which all of its calls share. So it
// is written once, by the first: a call reads it only after it has been here itself, and then nobody writes any more.
class TellUser final : public grpc::AuthMetadataProcessor {
 public:
  explicit TellUser(std::shared_ptr<const std::atomic<uid_t>> user) : user_(std::move(user)) {}

  bool IsBlocking() const override { return false; }

  grpc::Status Process(const InputMetadata&, grpc::AuthContext* connection, OutputMetadata*, OutputMetadata*) override {
    MutexLock lock(&mutex_);
    if (connection->FindPropertyValues(kUserProperty).empty()) {
      connection->AddProperty(kUserProperty, absl::StrCat(user_->load(std::memory_order_relaxed)));
    }
    return grpc::Status::OK;
  }

 private:
  const std::shared_ptr<const std::atomic<uid_t>> user_;
  Mutex mutex_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> UserCredentials(std::shared_ptr<const std::atomic<uid_t>> user) {
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::experimental::LocalServerCredentials(UDS);
  credentials->SetAuthMetadataProcessor(std::make_shared<TellUser>(std::move(user)));
  return credentials;
}

}  // namespace eventvirtual
