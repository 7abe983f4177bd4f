// HttpLink: events as HTTP POST requests, by libcurl's multi interface on our loop. What http, sqs and xmlrpc have in
// common.
#ifndef EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_LINK_H_
#define EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_LINK_H_

#include <curl/curl.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "transports/api/transport.h"
#include "transports/http/http_options.h"
#include "transports/http/http_refusal.h"
#include "transports/io/mailbox.h"
#include "transports/io/name_lookup.h"
#include "transports/io/tls_files.h"
#include "transports/io/worker.h"

namespace eventvirtual {

// Each parcel is one request; it ends OK when a 2xx answer has come that Check() accepts. Connections are kept and used
// again. The link is ready when the host's name has been looked up (and the TLS files have been read, on a Worker); it
// closes when a connection could not be made, so that its endpoint looks the name up again and spaces the attempts.
//
// libcurl repeats a request by itself when a kept connection ends before the first byte of an answer. The server may
// have taken the event by then: here such an attempt fails, as "may have arrived".
class HttpLink : public Link {
 public:
  ~HttpLink() override;
  void Send(absl::Span<Parcel> parcels) override;

 protected:
  // `name` is the masked target, for error texts.
  HttpLink(HttpPeer peer, absl::string_view content_type, std::string name, Loop& loop, Host& host);

  // The request's body. It stays valid while `message` and `*room` do: write into `room` what the message does not
  // keep.
  virtual absl::string_view Body(const Message& message, std::string* room) const = 0;
  // Further headers for `message`. Values are printable ASCII.
  using AddHeader = absl::FunctionRef<void(absl::string_view name, absl::string_view value)>;
  virtual void Headers(const Message& /*message*/, AddHeader) const {}
  // What a 2xx answer to `message` says. `body` holds its first 64 KiB; `whole`: nothing came behind them.
  virtual absl::Status Check(const Message& message, absl::string_view body, bool whole) const = 0;
  // What any other answer says; never OK.
  virtual absl::Status Refused(const HttpRefusal& refusal) const { return RefusalOf(refusal, name_); }

  // Ends the link, and what is out, with `why`. A constructor may call it: then the link is never ready.
  void Close(absl::Status why);

  const std::string& name() const { return name_; }

 private:
  struct Exchange;

  void ReadFiles();
  void LookUp();
  void OnAddresses(absl::StatusOr<std::vector<SocketAddress>> addresses);

  std::unique_ptr<Exchange> NewExchange();
  void Start(Parcel parcel);
  void Ask(Exchange& exchange, const char* url);
  void Drive(curl_socket_t fd, int events);
  void OnDone(Exchange& exchange, CURLcode result);
  bool FollowsRedirect(Exchange& exchange);
  absl::Status OutcomeOf(const Exchange& exchange, CURLcode result) const;
  absl::Status AnswerOutcome(const Exchange& exchange) const;

  static int OnSocket(CURL*, curl_socket_t fd, int wanted, void* self, void*);
  static int OnTimer(CURLM*, long timeout_ms, void* self);
  static curl_socket_t OpenSocket(void*, curlsocktype, curl_sockaddr* address);
  static int OnRequest(void* exchange, char*, char*, int, int);
  static size_t OnHeader(char* line, size_t one, size_t size, void* exchange);
  static size_t OnBody(char* bytes, size_t one, size_t size, void* exchange);

  const HttpPeer peer_;
  const std::string content_type_;
  const std::string name_;
  const HostPort named_;  // as the server is called, in the URL and in its certificate
  const Secret url_;      // without login; with the query
  Loop& loop_;
  Host& host_;
  bool ready_ = false;
  absl::Status closed_;

  const std::shared_ptr<Mailbox> box_ = std::make_shared<Mailbox>(loop_);
  std::unique_ptr<Worker> reader_;
  TlsFiles tls_files_;
  std::unique_ptr<NameLookup> lookup_;
  absl::Time looked_up_ = absl::InfinitePast();
  curl_slist* addresses_ = nullptr;  // for CURLOPT_RESOLVE: curl itself looks nothing up

  CURLM* const multi_;
  std::unique_ptr<Loop::Timer> timer_;
  absl::flat_hash_map<curl_socket_t, std::unique_ptr<Loop::Watch>> watches_;
  std::vector<std::unique_ptr<Exchange>> idle_, busy_;  // together at most a window
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_TRANSPORTS_HTTP_HTTP_LINK_H_
