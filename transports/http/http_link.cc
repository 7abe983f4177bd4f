#include "transports/http/http_link.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transports/api/check.h"
#include "transports/io/printable.h"
#include "transports/io/stream_socket.h"

namespace eventvirtual {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(2);  // of TCP and TLS together
constexpr absl::Duration kLookUpAgain = absl::Minutes(1);     // a name may move to another address
constexpr long kMaxIdleSeconds = 4;    // many servers close an idle connection after 5 s: do not meet them at the door
constexpr long kMaxLifeSeconds = 300;  // of a connection, so that one to an address that the name has left ends
constexpr size_t kMaxAnswer = 64 << 10;
constexpr int kMaxHops = 5;

// An event id may be any text; a header's value may not.
std::string HeaderValue(absl::string_view text) {
  const bool plain =
      !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isgraph(c); });
  return plain ? std::string(text) : PercentEncode(text, "");
}

}  // namespace

// One request and its answer. Kept for the next one: a handle remembers its options.
struct HttpLink::Exchange {
  ~Exchange() {
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
  }
  CURL* const curl = curl_easy_init();
  curl_slist* headers = nullptr;
  MessageRef message;
  Completion done;
  std::string room;  // of Body()
  std::string answer;
  bool begun = false;   // all headers of the answer have come
  bool cut = false;     // the answer is longer than kMaxAnswer
  int requests = 0;     // how often curl was about to send it
  int hops = 0;         // of redirection
  std::string refused;  // why the policy of destinations was against an address
  char error[CURL_ERROR_SIZE] = "";
};

HttpLink::HttpLink(HttpPeer peer, absl::string_view content_type, std::string name, Loop& loop, Host& host)
    : peer_(std::move(peer)),
      content_type_(content_type),
      name_(std::move(name)),
      named_{peer_.NameOf(peer_.address.host), peer_.address.port},
      url_(absl::StrCat(peer_.tls ? "https" : "http", "://", named_.ToString(), peer_.path,
                        peer_.query.empty() ? "" : "?", peer_.query.Reveal())),
      loop_(loop),
      host_(host),
      multi_(curl_multi_init()) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  EV_CHECK(initialised == CURLE_OK && multi_ != nullptr);
  timer_ = loop_.NewTimer([this] { Drive(CURL_SOCKET_TIMEOUT, 0); });
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &OnSocket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &OnTimer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_MAX_TOTAL_CONNECTIONS, static_cast<long>(peer_.window));
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(peer_.window));
  if (peer_.ca.empty() && peer_.cert.empty()) {
    LookUp();
  } else {
    ReadFiles();
  }
}

HttpLink::~HttpLink() {
  box_->Leave();
  for (const std::unique_ptr<Exchange>& exchange : busy_) curl_multi_remove_handle(multi_, exchange->curl);
  busy_.clear();
  idle_.clear();
  curl_multi_cleanup(multi_);
  curl_slist_free_all(addresses_);
}

// --- before the first request

void HttpLink::ReadFiles() {
  reader_ = std::make_unique<Worker>("http-files");
  reader_->Run([this, box = box_, ca = peer_.ca, cert = peer_.cert, key = peer_.key] {
    absl::StatusOr<TlsFiles> files = ReadTlsFiles(ca, cert, key);
    box->Post([this, files = std::move(files)]() mutable {
      if (!files.ok()) return Close(absl::UnavailableError(absl::StrCat(name_, ": ", files.status().message())));
      tls_files_ = *std::move(files);
      LookUp();
    });
  });
}

void HttpLink::LookUp() {
  looked_up_ = loop_.Now();
  lookup_ = std::make_unique<NameLookup>(
      loop_, peer_.address,
      [this](absl::StatusOr<std::vector<SocketAddress>> addresses) { OnAddresses(std::move(addresses)); });
}

void HttpLink::OnAddresses(absl::StatusOr<std::vector<SocketAddress>> addresses) {
  if (!addresses.ok()) {
    // Looked up again in vain: the addresses we know may still be good.
    if (!ready_) Close(absl::UnavailableError(absl::StrCat(name_, ": ", addresses.status().message())));
    return;
  }
  if (named_.host.find(':') == std::string::npos) {  // IPv6 in figures is none that curl would look up
    std::string entry = absl::StrCat(named_.host, ":", named_.port, ":");
    for (const SocketAddress& address : *addresses) {
      const std::string text = address.ToString();
      absl::StrAppend(&entry, &address == &addresses->front() ? "" : ",", text.substr(0, text.rfind(':')));
    }
    curl_slist_free_all(std::exchange(addresses_, curl_slist_append(nullptr, entry.c_str())));
  }
  if (closed_.ok() && !std::exchange(ready_, true)) host_.OnReady(peer_.window);
}

// --- requests

void HttpLink::Send(absl::Span<Parcel> parcels) {
  if (closed_.ok() && loop_.Now() > looked_up_ + kLookUpAgain) LookUp();
  for (Parcel& parcel : parcels) {
    if (closed_.ok()) {
      Start(std::move(parcel));
    } else {
      std::move(parcel.done).Finish(Fresh(closed_));
    }
  }
}

std::unique_ptr<HttpLink::Exchange> HttpLink::NewExchange() {
  auto exchange = std::make_unique<Exchange>();
  EV_CHECK(exchange->curl != nullptr);
  const auto set = [&exchange](CURLoption option, auto value) {
    EV_CHECK(curl_easy_setopt(exchange->curl, option, value) == CURLE_OK);
  };
  set(CURLOPT_PRIVATE, exchange.get());
  set(CURLOPT_ERRORBUFFER, exchange->error);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_PROXY, "");  // whatever the environment says
  set(CURLOPT_PROTOCOLS_STR, peer_.tls ? "https" : "http");
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_POST, 1L);
  set(CURLOPT_USERAGENT, "eventvirtual");  // unless a header says another
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(CURLOPT_OPENSOCKETFUNCTION, &OpenSocket);
  set(CURLOPT_OPENSOCKETDATA, exchange.get());
  set(CURLOPT_PREREQFUNCTION, &OnRequest);
  set(CURLOPT_PREREQDATA, exchange.get());
  set(CURLOPT_HEADERFUNCTION, &OnHeader);
  set(CURLOPT_HEADERDATA, exchange.get());
  set(CURLOPT_WRITEFUNCTION, &OnBody);
  set(CURLOPT_WRITEDATA, exchange.get());
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(peer_.timeout)));
  set(CURLOPT_CONNECTTIMEOUT_MS,
      static_cast<long>(absl::ToInt64Milliseconds(std::min(peer_.timeout, kConnectTimeout))));
  set(CURLOPT_MAXAGE_CONN, kMaxIdleSeconds);
  set(CURLOPT_MAXLIFETIME_CONN, kMaxLifeSeconds);
  if (peer_.login.has_value()) {
    if (peer_.signs_for.empty()) {
      set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
    } else {
      set(CURLOPT_AWS_SIGV4, absl::StrCat("aws:amz:", peer_.signs_for).c_str());
      set(CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);  // see Start()
    }
    set(CURLOPT_USERNAME, peer_.login->user.c_str());
    set(CURLOPT_PASSWORD, peer_.login->password.Reveal().c_str());
  }
  if (!peer_.tls) return exchange;
  set(CURLOPT_PIPEWAIT, 1L);  // one connection for the whole window, if the server turns out to speak HTTP/2
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_SSL_VERIFYPEER, peer_.verify ? 1L : 0L);
  set(CURLOPT_SSL_VERIFYHOST, peer_.verify ? 2L : 0L);
  set(CURLOPT_KEYPASSWD, "");  // else OpenSSL asks the terminal for an encrypted key's password
  const auto set_file = [&set](CURLoption option, std::string& content) {
    curl_blob blob = {.data = content.data(), .len = content.size(), .flags = CURL_BLOB_NOCOPY};
    if (!content.empty()) set(option, &blob);
  };
  if (!peer_.ca.empty()) set(CURLOPT_CAPATH, static_cast<const char*>(nullptr));  // these authorities and no others
  set_file(CURLOPT_CAINFO_BLOB, tls_files_.ca);
  set_file(CURLOPT_SSLCERT_BLOB, tls_files_.cert);
  set_file(CURLOPT_SSLKEY_BLOB, tls_files_.key);
  return exchange;
}

void HttpLink::Start(Parcel parcel) {
  if (idle_.empty()) idle_.push_back(NewExchange());
  Exchange& exchange = *busy_.emplace_back(std::move(idle_.back()));
  idle_.pop_back();
  exchange.message = std::move(parcel.message);
  exchange.done = std::move(parcel.done);
  exchange.hops = 0;

  curl_slist_free_all(std::exchange(exchange.headers, nullptr));
  const auto add = [&exchange](const std::string& line) {
    exchange.headers = curl_slist_append(exchange.headers, line.c_str());
  };
  add(absl::StrCat("Content-Type: ", content_type_));
  add(absl::StrCat("Idempotency-Key: ", HeaderValue(exchange.message->event_id())));
  // Not sent: the first costs a round trip. But libcurl 7.88 would sign even the names of headers that it is told not
  // to send, which no server accepts (curl's issue 11664); so a signed request has them.
  if (peer_.signs_for.empty()) {
    add("Expect:");
    add("Accept:");
  }
  for (const auto& [name, value] : peer_.headers) add(absl::StrCat(name, ": ", value.Reveal()));
  Headers(*exchange.message,
          [&add](absl::string_view name, absl::string_view value) { add(absl::StrCat(name, ": ", value)); });

  const absl::string_view body = Body(*exchange.message, &exchange.room);
  curl_easy_setopt(exchange.curl, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(exchange.curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(exchange.curl, CURLOPT_HTTPHEADER, exchange.headers);
  Ask(exchange, url_.Reveal().c_str());
  Drive(CURL_SOCKET_TIMEOUT, 0);  // each leaves before the next is begun
}

void HttpLink::Ask(Exchange& exchange, const char* url) {
  exchange.requests = 0;
  exchange.answer.clear();
  exchange.begun = exchange.cut = false;
  exchange.error[0] = '\0';
  exchange.refused.clear();
  curl_easy_setopt(exchange.curl, CURLOPT_URL, url);
  curl_easy_setopt(exchange.curl, CURLOPT_RESOLVE, addresses_);
  EV_CHECK(curl_multi_add_handle(multi_, exchange.curl) == CURLM_OK);
}

void HttpLink::Drive(curl_socket_t fd, int events) {
  int running = 0;
  curl_multi_socket_action(multi_, fd, events, &running);
  int left = 0;
  while (CURLMsg* const news = curl_multi_info_read(multi_, &left)) {
    if (news->msg != CURLMSG_DONE) continue;
    const CURLcode result = news->data.result;
    Exchange* exchange = nullptr;
    curl_easy_getinfo(news->easy_handle, CURLINFO_PRIVATE, &exchange);
    curl_multi_remove_handle(multi_, news->easy_handle);  // and `news` with it
    OnDone(*exchange, result);
  }
}

void HttpLink::OnDone(Exchange& exchange, CURLcode result) {
  if (result == CURLE_OK && FollowsRedirect(exchange)) return;
  absl::Status outcome = OutcomeOf(exchange, result);
  const bool never_left = result != CURLE_OK && exchange.requests == 0;
  Completion done = std::move(exchange.done);
  exchange.message = nullptr;
  const auto place = std::find_if(busy_.begin(), busy_.end(), [&](const auto& one) { return one.get() == &exchange; });
  idle_.push_back(std::move(*place));
  busy_.erase(place);
  // Not while other connections are of use.
  if (never_left && busy_.empty()) Close(Fresh(outcome));
  std::move(done).Finish(std::move(outcome));
}

// 307 and 308 ask for the same request again (RFC 9110 sections 15.4.8 and 15.4.9); the others make a GET of it. Never
// to another place: its name has not been looked up, and nobody said that it may have our events and login.
bool HttpLink::FollowsRedirect(Exchange& exchange) {
  long status = 0;
  char* where = nullptr;
  curl_easy_getinfo(exchange.curl, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(exchange.curl, CURLINFO_REDIRECT_URL, &where);
  if (!peer_.redirects || (status != 307 && status != 308) || OriginOf(where) != OriginOf(url_.Reveal().c_str()))
    return false;
  if (++exchange.hops > kMaxHops) return false;
  const std::string url = where;  // it goes with the request before
  Ask(exchange, url.c_str());
  return true;
}

absl::Status HttpLink::OutcomeOf(const Exchange& exchange, CURLcode result) const {
  if (exchange.cut || (result == CURLE_OK && exchange.begun)) return AnswerOutcome(exchange);
  const absl::string_view said = exchange.error[0] != '\0' ? exchange.error : curl_easy_strerror(result);
  std::string what = Printable(said.substr(0, kMaxErrorText));
  if (result == CURLE_OK) what = "the answer broke off";
  const char* const hint = exchange.requests > 0 ? "; the event may have arrived" : "";
  switch (result) {
    case CURLE_COULDNT_CONNECT:
      if (exchange.refused.empty()) return absl::UnavailableError(absl::StrCat(name_, ": ", what));
      return absl::PermissionDeniedError(absl::StrCat(name_, ": ", exchange.refused));
    case CURLE_OPERATION_TIMEDOUT:
      return absl::DeadlineExceededError(absl::StrCat(name_, ": ", what, hint));
    case CURLE_ABORTED_BY_CALLBACK:  // OnRequest()
      return absl::UnavailableError(absl::StrCat(name_, ": the server closed the connection without an answer", hint));
    case CURLE_PEER_FAILED_VERIFICATION:
      return absl::UnauthenticatedError(
          absl::StrCat(name_, ": ", what, "; ca=/path names the authorities to trust, if it is the right server"));
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
      return absl::UnauthenticatedError(absl::StrCat(name_, ": ca, cert or key: ", what));
    default:
      return absl::UnavailableError(absl::StrCat(name_, ": ", what, hint));
  }
}

absl::Status HttpLink::AnswerOutcome(const Exchange& exchange) const {
  HttpRefusal refusal;
  curl_easy_getinfo(exchange.curl, CURLINFO_RESPONSE_CODE, &refusal.status);
  if (refusal.status / 100 == 2) return Check(*exchange.message, exchange.answer, !exchange.cut);
  char* where = nullptr;
  curl_easy_getinfo(exchange.curl, CURLINFO_REDIRECT_URL, &where);
  refusal.redirected_to = OriginOf(where);
  curl_off_t seconds = 0;
  curl_easy_getinfo(exchange.curl, CURLINFO_RETRY_AFTER, &seconds);
  refusal.retry_after = absl::Seconds(seconds);
  refusal.body = exchange.answer;
  return Refused(refusal);
}

void HttpLink::Close(absl::Status why) {
  if (!closed_.ok()) return;
  closed_ = std::move(why);
  std::vector<std::unique_ptr<Exchange>> busy;
  busy.swap(busy_);
  for (const std::unique_ptr<Exchange>& exchange : busy) {
    curl_multi_remove_handle(multi_, exchange->curl);
    std::move(exchange->done).Finish(Fresh(closed_));
  }
  box_->Post([this] { host_.OnClosed(Fresh(closed_)); });
}

// --- what curl calls

int HttpLink::OnSocket(CURL*, curl_socket_t fd, int wanted, void* self, void*) {
  auto* const link = static_cast<HttpLink*>(self);
  if (wanted == CURL_POLL_REMOVE) {
    link->watches_.erase(fd);
    return 0;
  }
  std::unique_ptr<Loop::Watch>& watch = link->watches_[fd];
  if (watch == nullptr) {
    watch = link->loop_.NewWatch(fd, [link, fd](Loop::Readiness ready) {
      link->Drive(fd, (ready.readable ? CURL_CSELECT_IN : 0) | (ready.writable ? CURL_CSELECT_OUT : 0));
    });
  }
  watch->Want({.readable = (wanted & CURL_POLL_IN) != 0, .writable = (wanted & CURL_POLL_OUT) != 0});
  return 0;
}

int HttpLink::OnTimer(CURLM*, long timeout_ms, void* self) {
  auto* const link = static_cast<HttpLink*>(self);
  if (timeout_ms < 0) {
    link->timer_->Cancel();
  } else {
    link->timer_->Arm(link->loop_.Now() + absl::Milliseconds(timeout_ms));
  }
  return 0;
}

curl_socket_t HttpLink::OpenSocket(void* exchange, curlsocktype, curl_sockaddr* address) {
  const absl::StatusOr<int> opened = OpenStreamSocket(address->addr);
  if (absl::IsPermissionDenied(opened.status())) {
    static_cast<Exchange*>(exchange)->refused = std::string(opened.status().message());
  }
  return opened.ok() ? *opened : CURL_SOCKET_BAD;
}

// A connection is there, and the request is about to be sent. For the second time: curl's own repetition.
int HttpLink::OnRequest(void* exchange, char*, char*, int, int) {
  return ++static_cast<Exchange*>(exchange)->requests > 1 ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

// A line of the answer's head. curl takes a head that ends too early for a whole one.
size_t HttpLink::OnHeader(char* line, size_t, size_t size, void* exchange) {
  bool& begun = static_cast<Exchange*>(exchange)->begun;
  const absl::string_view text(line, size);
  if (absl::StartsWith(text, "HTTP/")) begun = false;  // the answer proper, behind one of 1xx
  if (text == "\r\n" || text == "\n") begun = true;
  return size;
}

size_t HttpLink::OnBody(char* bytes, size_t, size_t size, void* to) {
  auto* const exchange = static_cast<Exchange*>(to);
  const size_t room = kMaxAnswer - exchange->answer.size();
  exchange->answer.append(bytes, std::min(size, room));
  exchange->cut = size > room;
  return exchange->cut ? 0 : size;  // 0: curl ends the connection
}

}  // namespace eventvirtual
