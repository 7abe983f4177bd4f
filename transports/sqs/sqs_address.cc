#include "transports/sqs/sqs_address.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

constexpr absl::string_view kFifo = ".fifo";
constexpr absl::string_view kDefaultGroup = "eventvirtual";
constexpr size_t kMaxQueueName = 80;  // with ".fifo" (CreateQueue)
constexpr size_t kMaxGroup = 128;     // SendMessage
constexpr size_t kMaxRegion = 64;     // libcurl's

bool AllOf(absl::string_view text, bool (*is_allowed)(char)) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_allowed);
}

bool IsDigit(char c) { return absl::ascii_isdigit(c); }
bool IsPrintable(char c) { return absl::ascii_isgraph(c); }
bool IsRegionByte(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-'; }
bool IsQueueByte(char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_'; }

// Every region is called so: eu-central-1, us-gov-west-1.
bool LooksLikeRegion(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> cut = absl::StrSplit(text, absl::MaxSplits('-', 1));
  const size_t dash = cut.second.rfind('-');
  return AllOf(text, IsRegionByte) && !cut.first.empty() && dash != absl::string_view::npos && dash > 0 &&
         AllOf(cut.second.substr(dash + 1), IsDigit);
}

// The region that a host of AWS names behind "sqs", whatever stands around it: sqs.REGION.amazonaws.com,
// sqs-fips.REGION.amazonaws.com, vpce-….sqs.REGION.vpce.amazonaws.com. Empty if the host is none of these.
std::string RegionOf(absl::string_view host) {
  const std::vector<absl::string_view> labels = absl::StrSplit(host, '.');
  for (size_t i = 0; i + 1 < labels.size(); ++i) {
    const bool is_service = labels[i] == "sqs" || labels[i] == "sqs-fips";
    if (is_service && LooksLikeRegion(labels[i + 1])) return std::string(labels[i + 1]);
  }
  return "";
}

bool IsQueueName(absl::string_view name) {
  if (name.size() > kMaxQueueName) return false;
  return AllOf(absl::StripSuffix(name, kFifo), IsQueueByte);
}

}  // namespace

absl::StatusOr<SqsAddress> ParseSqsAddress(const Uri& uri) {
  SqsAddress address;
  HttpPeer& peer = address.peer;
  absl::string_view url = uri.body;
  peer.tls = absl::ConsumePrefix(&url, "https:");
  if (!peer.tls && !absl::ConsumePrefix(&url, "http:")) {
    return absl::InvalidArgumentError(
        "no URL behind sqs: that begins with https:// or http://; write "
        "sqs:https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE");
  }
  if (absl::StrContains(url, '?')) {
    return absl::InvalidArgumentError("a '?' that no option follows; the URL of a queue has no query");
  }
  if (absl::Status status = TakeUrl(uri, url, &peer); !status.ok()) return status;
  if (peer.login.has_value()) {
    return absl::InvalidArgumentError(
        "a login before '@' in the URL; requests are signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the "
        "server's environment");
  }
  const absl::string_view queue = absl::string_view(peer.path).substr(peer.path.rfind('/') + 1);
  if (!IsQueueName(queue)) {
    return absl::InvalidArgumentError(
        absl::StrCat("no name of a queue behind the last '/' (1 to ", kMaxQueueName,
                     " letters, digits, '-' and '_'; .fifo may end it); write https://sqs.REGION.amazonaws.com/"
                     "ACCOUNT/QUEUE"));
  }
  const bool fifo = absl::EndsWith(queue, kFifo);
  address.queue_url = UrlOf(peer, /*masked=*/false);
  peer.path.resize(1);  // "/"

  QueryReader query(uri);
  address.region = query.TakeString("region", RegionOf(peer.address.host));
  if (fifo) address.group = query.TakeString("group", kDefaultGroup);
  if (absl::Status status = TakeConnectionOptions(query, &peer); !status.ok()) return status;
  address.encoding = TakeTextEncoding(query);
  if (absl::Status status = query.Done(); !status.ok()) return status;
  if (address.region.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("host \"", peer.address.host,
                     "\" does not name its region as sqs.eu-central-1.amazonaws.com does; add region=eu-central-1"));
  }
  if (address.region.size() > kMaxRegion || !AllOf(address.region, IsRegionByte)) {
    return absl::InvalidArgumentError("option \"region\" is no region's name, such as eu-central-1");
  }
  if (fifo && (address.group.size() > kMaxGroup || !AllOf(address.group, IsPrintable))) {
    return absl::InvalidArgumentError(
        absl::StrCat("option \"group\" is not 1 to ", kMaxGroup, " printable ASCII characters without blanks"));
  }
  return address;
}

std::string SqsAddress::ToString() const {
  QueryWriter options;
  if (region != RegionOf(peer.address.host)) options.Add("region", region);
  if (!group.empty() && group != kDefaultGroup) options.Add("group", group);
  AddHttpOptions(peer, /*masked=*/false, &options);
  AddEncoding(encoding, &options);
  return absl::StrCat("sqs:", queue_url, options.text());
}

}  // namespace eventvirtual
