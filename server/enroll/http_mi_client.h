// MI over HTTP, as OpenSIPS' module mi_http serves it.
#ifndef EVENTVIRTUAL_SERVER_ENROLL_HTTP_MI_CLIENT_H_
#define EVENTVIRTUAL_SERVER_ENROLL_HTTP_MI_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/enroll/mi_client.h"

namespace eventvirtual {

// `url` as MakeMiClient() has it. One connection, kept from call to call. Redirects are not followed, and proxies of
// the environment are not used. OpenSIPS answers with status 200 also where MI refuses; any other is none of its
// answers.
absl::StatusOr<std::unique_ptr<MiClient>> MakeHttpMiClient(const std::string& url, const MiLimits& limits);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ENROLL_HTTP_MI_CLIENT_H_
