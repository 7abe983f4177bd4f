#include "server/admin/status_page.h"

#include <openssl/sha.h>

#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kPage =
#include "server/admin/status_page.inc"
    ;

const std::pair<std::string, std::string> kNoStore{"Cache-Control", "no-store"};
const std::pair<std::string, std::string> kNoSniff{"X-Content-Type-Options", "nosniff"};

// 'sha256-…' of what stands between the page's <tag> and </tag>, as CSP (level 2, 4.2.5) names an inline element.
std::string HashOf(absl::string_view tag) {
  const std::string open = absl::StrCat("<", tag, ">"), close = absl::StrCat("</", tag, ">");
  const size_t begin = kPage.find(open), end = kPage.find(close);
  EV_CHECK(begin < end && end != absl::string_view::npos);
  const absl::string_view text = kPage.substr(begin + open.size(), end - begin - open.size());
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash);
  return absl::StrCat("'sha256-", absl::Base64Escape(absl::string_view(reinterpret_cast<char*>(hash), sizeof(hash))),
                      "'");
}

std::string ContentSecurityPolicy() {
  return absl::StrCat("default-src 'none'; script-src ", HashOf("script"), "; style-src ", HashOf("style"),
                      "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                      "frame-ancestors 'none'");
}

HttpResponse Refusal(absl::string_view why) {
  return {400, "text/plain; charset=utf-8", absl::StrCat(why, "\n"), {kNoStore, kNoSniff}};
}

HttpResponse AnswerTo(const StatusBoard& board, const HttpRequest& request) {
  StatusQuery query;
  query.filter = std::string(request.Argument("filter"));
  query.subscriptions = std::string(request.Argument("subscriptions"));
  query.endpoints = std::string(request.Argument("endpoints"));
  query.events = std::string(request.Argument("events"));
  const absl::string_view limit = request.Argument("limit");
  if (!limit.empty() &&
      (!absl::SimpleAtoi(limit, &query.limit) || query.limit < 1 || query.limit > StatusBoard::kMaxRows)) {
    return Refusal(absl::StrCat("limit: write a number from 1 to ", StatusBoard::kMaxRows));
  }
  absl::StatusOr<std::string> json = board.Json(query);
  if (!json.ok()) return Refusal(json.status().message());
  return {200, "application/json", *std::move(json), {kNoStore, kNoSniff}};
}

}  // namespace

std::vector<HttpRoute> StatusRoutes(const StatusBoard& board) {
  std::vector<HttpRoute> routes;
  routes.push_back(
      {"GET", "/", [policy = ContentSecurityPolicy()](const HttpRequest&, HttpReply reply) {
         std::move(reply).Send(
             {200,
              "text/html; charset=utf-8",
              std::string(kPage),
              {kNoStore, kNoSniff, {"Content-Security-Policy", policy}, {"Referrer-Policy", "no-referrer"}}});
       }});
  routes.push_back({"GET", "/status.json", [&board](const HttpRequest& request, HttpReply reply) {
                      std::move(reply).Send(AnswerTo(board, request));
                    }});
  return routes;
}

}  // namespace eventvirtual
