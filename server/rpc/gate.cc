#include "server/rpc/gate.h"

#include <grpc/grpc_security_constants.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "server/rpc/user_credentials.h"

namespace eventvirtual {
namespace {

const std::string kAny = "*";

absl::string_view View(grpc::string_ref text) { return absl::string_view(text.data(), text.size()); }

Caller CallerOf(const grpc::ServerContextBase& context) {
  Caller caller;
  const std::shared_ptr<const grpc::AuthContext> auth = context.auth_context();
  const auto property = [&auth](const char* name) {
    return auth == nullptr ? std::vector<grpc::string_ref>() : auth->FindPropertyValues(name);
  };
  const std::vector<grpc::string_ref> type = property(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  if (!type.empty() && View(type[0]) == GRPC_SSL_TRANSPORT_SECURITY_TYPE) {
    caller.way = Caller::Way::kTls;
    for (const char* const names : {GRPC_X509_SAN_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME}) {
      if (!caller.certificate.empty()) break;
      for (const grpc::string_ref& name : property(names)) caller.certificate.emplace_back(name.data(), name.size());
    }
  } else if (absl::StartsWith(context.peer(), "unix:")) {
    caller.way = Caller::Way::kUnix;
    const std::vector<grpc::string_ref> user = property(kUserProperty);
    if (uid_t number = 0; !user.empty() && absl::SimpleAtoi(View(user[0]), &number)) caller.user = number;
  }
  return caller;
}

absl::string_view AuthorizationOf(const grpc::ServerContextBase& context) {
  const auto shown = context.client_metadata().find("authorization");
  return shown == context.client_metadata().end() ? "" : View(shown->second);
}

}  // namespace

const std::string* const kAnyEvent = &kAny;

absl::Status Gate::Ask(const grpc::ServerContextBase& context, absl::string_view what,
                       std::initializer_list<Role> roles, const std::string* event) const {
  if (access_ == nullptr) return absl::OkStatus();
  return access_->Ask(CallerOf(context), AuthorizationOf(context), context.peer(), what, roles, event);
}

std::string Gate::PrincipalOf(const grpc::ServerContextBase& context) const {
  Caller caller = CallerOf(context);
  if (access_ != nullptr) caller = access_->Identify(std::move(caller), AuthorizationOf(context));
  return AccessList::Describe(caller);
}

}  // namespace eventvirtual
