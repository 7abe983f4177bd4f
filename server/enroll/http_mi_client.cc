#include "server/enroll/http_mi_client.h"

#include <curl/curl.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/enroll/mi_answer.h"
#include "transports/api/check.h"
#include "transports/api/secret.h"
#include "transports/io/printable.h"

namespace eventvirtual {
namespace {

struct CurlFree {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
  void operator()(char* text) const { curl_free(text); }
};
template <typename T>
using Owned = std::unique_ptr<T, CurlFree>;

// "" when the URL has no such part.
std::string PartOf(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return "";
  return Owned<char>(text).get();
}

class HttpMiClient final : public MiClient {
 public:
  HttpMiClient(Owned<CURLU> url, const MiLimits& limits) : max_answer_(limits.max_answer) {
    const std::string user = PartOf(url.get(), CURLUPART_USER, CURLU_URLDECODE);
    const Secret password(PartOf(url.get(), CURLUPART_PASSWORD, CURLU_URLDECODE));
    const bool login = !user.empty() || !password.empty();
    const bool query = !PartOf(url.get(), CURLUPART_QUERY).empty();  // it may hold a token
    curl_url_set(url.get(), CURLUPART_PASSWORD, nullptr, 0);
    curl_url_set(url.get(), CURLUPART_USER, nullptr, 0);
    set(CURLOPT_URL, PartOf(url.get(), CURLUPART_URL).c_str());
    if (login) {
      set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
      set(CURLOPT_USERNAME, user.c_str());
      set(CURLOPT_PASSWORD, password.Reveal().c_str());
      curl_url_set(url.get(), CURLUPART_USER, user.c_str(), CURLU_URLENCODE);
      curl_url_set(url.get(), CURLUPART_PASSWORD, "***", 0);
    }
    if (query) curl_url_set(url.get(), CURLUPART_QUERY, "***", 0);
    name_ = PartOf(url.get(), CURLUPART_URL);

    for (const char* header : {"Content-Type: application/json", "Expect:", "User-Agent: eventvirtual"}) {
      headers_.reset(curl_slist_append(headers_.release(), header));
    }
    set(CURLOPT_HTTPHEADER, headers_.get());
    set(CURLOPT_ERRORBUFFER, error_);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_PROXY, "");  // whatever the environment says
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(absl::ToInt64Milliseconds(limits.timeout)));
    set(CURLOPT_WRITEFUNCTION, &OnBody);
    set(CURLOPT_WRITEDATA, this);
  }

  const std::string& name() const override { return name_; }

  absl::StatusOr<std::string> Call(absl::string_view method, absl::string_view params) override {
    const uint32_t id = ids_.Next();
    const std::string request = MiCallText(id, method, params);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.size()));
    set(CURLOPT_POSTFIELDS, request.data());
    answer_.clear();
    cut_ = false;
    error_[0] = '\0';
    const CURLcode result = curl_easy_perform(curl_.get());
    if (cut_) {
      return absl::ResourceExhaustedError(absl::StrCat("the answer has more than ", max_answer_, " bytes"));
    }
    if (result != CURLE_OK) {
      return absl::UnavailableError(Printable(error_[0] != '\0' ? error_ : curl_easy_strerror(result)));
    }
    long status = 0;
    curl_easy_getinfo(curl_.get(), CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) return absl::UnavailableError(absl::StrCat("answered with HTTP status ", status));
    std::optional<absl::StatusOr<std::string>> read = ReadMiAnswer(answer_, id);
    if (!read.has_value()) return absl::UnavailableError("the answer is to another request");
    return *std::move(read);
  }

 private:
  template <typename Value>
  void set(CURLoption option, Value value) {
    EV_CHECK(curl_easy_setopt(curl_.get(), option, value) == CURLE_OK);
  }

  static size_t OnBody(char* bytes, size_t one, size_t size, void* self) {
    HttpMiClient& client = *static_cast<HttpMiClient*>(self);
    client.cut_ = client.answer_.size() + size > client.max_answer_;
    if (client.cut_) return 0;
    client.answer_.append(bytes, size);
    return one * size;  // `one` is 1
  }

  const size_t max_answer_;
  std::string name_;
  MiIds ids_;
  Owned<curl_slist> headers_;
  const Owned<CURL> curl_{curl_easy_init()};
  std::string answer_;
  bool cut_ = false;
  char error_[CURL_ERROR_SIZE] = "";
};

}  // namespace

absl::StatusOr<std::unique_ptr<MiClient>> MakeHttpMiClient(const std::string& url, const MiLimits& limits) {
  static const CURLcode initialised = curl_global_init(CURL_GLOBAL_DEFAULT);
  EV_CHECK(initialised == CURLE_OK);
  Owned<CURLU> parsed(curl_url());
  if (const CURLUcode fault = curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0); fault != CURLUE_OK) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a URL: ", curl_url_strerror(fault), "; write http://[user:password@]host[:port]/mi"));
  }
  return std::make_unique<HttpMiClient>(std::move(parsed), limits);
}

}  // namespace eventvirtual
