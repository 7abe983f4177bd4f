// The status page, and where its numbers come from.
#ifndef EVENTVIRTUAL_SERVER_ADMIN_STATUS_PAGE_H_
#define EVENTVIRTUAL_SERVER_ADMIN_STATUS_PAGE_H_

#include <vector>

#include "server/admin/status.h"
#include "server/http/http_server.h"

namespace eventvirtual {

// For AdminServer; `board` outlives it.
//   /             the page, one file: it asks the next one every two seconds
//   /status.json  what StatusBoard::Json() gives; the query's `filter`, `subscriptions`, `endpoints`, `events` and
//   `limit`
//                 are those of StatusQuery; 400 says what is wrong with them
// Neither is kept by a cache. The page runs its own script and nothing else (Content-Security-Policy).
std::vector<HttpRoute> StatusRoutes(const StatusBoard& board);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_ADMIN_STATUS_PAGE_H_
