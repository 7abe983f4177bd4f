#include "transports/api/uri.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace eventvirtual {
namespace {

bool IsSchemeByte(char c) {
  return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '+' || c == '.' || c == '-';
}
bool IsOptionByte(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '-'; }

int HexDigit(char c) {
  if (absl::ascii_isdigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool ReadsAsQuery(absl::string_view text) {
  for (absl::string_view pair : absl::StrSplit(text, '&')) {
    const size_t equals = pair.find('=');
    if (equals == absl::string_view::npos || equals == 0) return false;
    for (char c : pair.substr(0, equals)) {
      if (!IsOptionByte(c)) return false;
    }
  }
  return true;
}

bool IsHostByte(char c) { return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_'; }

// How the text and the contents of files make a secret.
enum class SecretForm {
  kBody,    // text is percent-encoded
  kOption,  // both are what they are
  kUrl,     // contents are percent-encoded
};

absl::StatusOr<Secret> ParseSecret(const Uri& uri, absl::string_view what, absl::string_view written, SecretForm form) {
  std::vector<std::string> pieces;
  Secret whole;
  bool known = true;
  const auto append = [&whole](absl::string_view text) { whole = Secret(absl::StrCat(whole.Reveal(), text)); };
  while (true) {
    const size_t begin = written.find(kSecretBegin);
    const absl::string_view text = written.substr(0, begin);
    std::optional<std::string> decoded = form == SecretForm::kBody ? PercentDecode(text) : std::string(text);
    if (!decoded.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": a '%' must be followed by two hexadecimal digits; write '%' as %25"));
    }
    append(*decoded);
    pieces.push_back(*std::move(decoded));
    if (begin == absl::string_view::npos) break;
    written.remove_prefix(begin + kSecretBegin.size());
    const size_t end = written.find('}');
    if (end == absl::string_view::npos || !IsSecretName(written.substr(0, end))) {
      return absl::InvalidArgumentError(absl::StrCat(
          what, ": \"", kSecretBegin, "\" needs the name of a file and a '}' behind it, such as ${secret:rabbit}"));
    }
    const absl::string_view name = written.substr(0, end);
    written.remove_prefix(end + 1);
    pieces.emplace_back(name);
    const auto found = uri.secrets.find(name);
    known = known && found != uri.secrets.end() && !found->second.empty();
    if (known) {
      const std::string& content = found->second.Reveal();
      append(form == SecretForm::kUrl ? PercentEncode(content, "") : content);
    }
  }
  if (pieces.size() == 1) return whole;
  return Secret(std::move(pieces), known ? std::move(whole) : Secret());
}

}  // namespace

absl::StatusOr<Uri> ParseUri(absl::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("the subscriber is empty; write scheme:address");
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte <= 0x20 || byte == 0x7f) {
      return absl::InvalidArgumentError(absl::StrCat("white space or a control character (byte ", byte, ") at offset ",
                                                     i,
                                                     " of the subscriber; write it percent-encoded inside an option"));
    }
  }
  Uri uri;
  if (text[0] == '/') {
    uri.scheme = "unix";
  } else {
    const size_t colon = text.find(':');
    if (colon == absl::string_view::npos || colon == 0) {
      return absl::InvalidArgumentError("the subscriber has no scheme; write scheme:address, as in udp:127.0.0.1:8080");
    }
    const absl::string_view scheme = text.substr(0, colon);
    for (char c : scheme) {
      if (!IsSchemeByte(c) || !absl::ascii_islower(scheme[0])) {
        return absl::InvalidArgumentError(
            "the text before the first ':' is not a scheme (lower-case letters, digits, '+', '.', '-')");
      }
    }
    uri.scheme = std::string(scheme);
    text.remove_prefix(colon + 1);
  }
  const size_t mark = text.rfind('?');
  if (mark != absl::string_view::npos && ReadsAsQuery(text.substr(mark + 1))) {
    for (absl::string_view pair : absl::StrSplit(text.substr(mark + 1), '&')) {
      const std::pair<absl::string_view, absl::string_view> cut = absl::StrSplit(pair, absl::MaxSplits('=', 1));
      std::optional<std::string> value = PercentDecode(cut.second);
      if (!value.has_value()) {
        return absl::InvalidArgumentError(
            absl::StrCat("option ", uri.query.size() + 1, ": a '%' must be followed by two hexadecimal digits"));
      }
      uri.query.emplace_back(std::string(cut.first), *std::move(value));
    }
    text = text.substr(0, mark);
    // Else the body, printed without its options, would be read with others.
    if (const size_t other = text.rfind('?');
        other != absl::string_view::npos && ReadsAsQuery(text.substr(other + 1))) {
      return absl::InvalidArgumentError("options stand behind two '?'; write one '?' and join its options with '&'");
    }
  }
  uri.body = std::string(text);
  return uri;
}

std::string HostPort::ToString() const {
  return host.find(':') == std::string::npos ? absl::StrCat(host, ":", port) : absl::StrCat("[", host, "]:", port);
}

absl::StatusOr<HostPort> ParseHostPort(absl::string_view text, uint16_t default_port) {
  HostPort result;
  absl::string_view host, port;
  bool has_port = false;
  if (absl::ConsumePrefix(&text, "[")) {
    const size_t close = text.find(']');
    if (close == absl::string_view::npos) return absl::InvalidArgumentError("an IPv6 address lacks its ']'");
    host = text.substr(0, close);
    for (char c : host) {
      if (!absl::ascii_isxdigit(c) && c != ':' && c != '.') {
        return absl::InvalidArgumentError("what stands in [ ] is not an IPv6 address");
      }
    }
    if (host.find(':') == absl::string_view::npos) {
      return absl::InvalidArgumentError("what stands in [ ] is not an IPv6 address");
    }
    absl::string_view rest = text.substr(close + 1);
    has_port = absl::ConsumePrefix(&rest, ":");
    if (!has_port && !rest.empty()) return absl::InvalidArgumentError("after ']' only :port may follow");
    port = rest;
  } else {
    const size_t colon = text.find(':');
    host = text.substr(0, colon);
    has_port = colon != absl::string_view::npos;
    if (has_port) port = text.substr(colon + 1);
    if (port.find(':') != absl::string_view::npos) {
      return absl::InvalidArgumentError("more than one ':' in host:port; write an IPv6 address as [address]:port");
    }
    for (char c : host) {
      if (!IsHostByte(c)) {
        return absl::InvalidArgumentError("the host holds a character that no host name or IPv4 address has");
      }
    }
  }
  if (host.empty()) return absl::InvalidArgumentError("the host is empty; write host:port");
  if (host.size() > 253) return absl::InvalidArgumentError("the host is longer than the 253 characters of a DNS name");
  result.host = absl::AsciiStrToLower(host);
  if (!has_port) {
    if (default_port == 0)
      return absl::InvalidArgumentError(absl::StrCat("no port after host \"", host, "\"; write host:port"));
    result.port = default_port;
    return result;
  }
  uint32_t number = 0;
  bool digits = !port.empty() && port.size() <= 5;
  for (char c : port) digits = digits && absl::ascii_isdigit(c);
  if (!digits || !absl::SimpleAtoi(port, &number) || number < 1 || number > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("the port after host \"", host, "\" is not a number from 1 to 65535"));
  }
  result.port = static_cast<uint16_t>(number);
  return result;
}

std::optional<std::string> PercentDecode(absl::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = HexDigit(text[i + 1]), low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    decoded.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return decoded;
}

std::string PercentEncode(absl::string_view text, absl::string_view keep) {
  std::string encoded;
  for (char c : text) {
    if (absl::ascii_isalnum(c) || absl::StrContains("-._~", c) || absl::StrContains(keep, c)) {
      encoded.push_back(c);
    } else {
      absl::StrAppend(&encoded, "%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return encoded;
}

absl::Status CheckWhole(absl::string_view authority, absl::string_view what, absl::string_view rest) {
  const size_t at = std::min(rest.find('@'), rest.size());
  if (authority.find_first_of(":@") == absl::string_view::npos || !absl::StrContains(rest.substr(at), '/')) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "there is an '@' behind the first '/': write a '/' of a password as %2F, and an '@' of ", what, " as %40"));
}

absl::StatusOr<Secret> SecretInBody(const Uri& uri, absl::string_view what, absl::string_view written) {
  return ParseSecret(uri, what, written, SecretForm::kBody);
}

std::string InBody(const Secret& secret, bool masked) {
  return secret.Written(masked, [](absl::string_view text) { return PercentEncode(text, ""); });
}

const std::string* QueryReader::Find(absl::string_view name) {
  known_.emplace_back(name);
  const std::string* found = nullptr;
  for (const auto& [key, value] : uri_.query) {
    if (key != name) continue;
    if (found != nullptr && fault_.ok()) {
      fault_ = absl::InvalidArgumentError(absl::StrCat("option \"", name, "\" is given twice"));
    }
    found = &value;
  }
  return found;
}

bool QueryReader::TakeBool(absl::string_view name, bool fallback) {
  const std::string* text = Find(name);
  if (text == nullptr) return fallback;
  bool value = fallback;
  if (!absl::SimpleAtob(*text, &value) && fault_.ok()) {
    fault_ = absl::InvalidArgumentError(absl::StrCat("option \"", name, "\" is neither 1 nor 0"));
  }
  return value;
}

int64_t QueryReader::TakeInt(absl::string_view name, int64_t fallback, int64_t min, int64_t max) {
  const std::string* text = Find(name);
  if (text == nullptr) return fallback;
  int64_t value = fallback;
  if ((!absl::SimpleAtoi(*text, &value) || value < min || value > max) && fault_.ok()) {
    fault_ = absl::InvalidArgumentError(absl::StrCat("option \"", name, "\" is not a number from ", min, " to ", max));
  }
  return value;
}

absl::Duration QueryReader::TakeDuration(absl::string_view name, absl::Duration fallback, absl::Duration min,
                                         absl::Duration max) {
  const std::string* text = Find(name);
  if (text == nullptr) return fallback;
  absl::Duration value = fallback;
  int64_t milliseconds = 0;
  bool read = false;
  if (absl::SimpleAtoi(*text, &milliseconds)) {
    value = absl::Milliseconds(milliseconds);
    read = true;
  } else {
    read = absl::ParseDuration(*text, &value);
  }
  if ((!read || value < min || value > max) && fault_.ok()) {
    fault_ =
        absl::InvalidArgumentError(absl::StrCat("option \"", name, "\" is not a time from ", absl::FormatDuration(min),
                                                " to ", absl::FormatDuration(max), ", such as 500ms or 2s"));
  }
  return value;
}

std::string QueryReader::TakeString(absl::string_view name, absl::string_view fallback) {
  const std::string* text = Find(name);
  return text == nullptr ? std::string(fallback) : *text;
}

Secret QueryReader::TakeSecret(absl::string_view name, bool url) {
  const std::string* text = Find(name);
  if (text == nullptr) return Secret();
  has_secret_ = true;
  absl::StatusOr<Secret> secret =
      ParseSecret(uri_, absl::StrCat("option \"", name, "\""), *text, url ? SecretForm::kUrl : SecretForm::kOption);
  if (secret.ok()) return *std::move(secret);
  if (fault_.ok()) fault_ = secret.status();
  return Secret();
}

int QueryReader::TakeWord(absl::string_view name, int fallback, absl::Span<const absl::string_view> words) {
  const std::string* text = Find(name);
  if (text == nullptr) return fallback;
  for (size_t i = 0; i < words.size(); ++i) {
    if (*text == words[i]) return static_cast<int>(i);
  }
  if (fault_.ok()) {
    fault_ = absl::InvalidArgumentError(absl::StrCat("option \"", name, "\" is none of: ", absl::StrJoin(words, ", ")));
  }
  return fallback;
}

bool QueryReader::MayHoldSecrets() const {
  return has_secret_ || absl::StrContains(uri_.body, '@') ||
         std::any_of(uri_.query.begin(), uri_.query.end(),
                     [](const auto& option) { return absl::StrContains(option.second, '@'); });
}

absl::Status QueryReader::Done() {
  if (!fault_.ok()) return fault_;
  for (size_t i = 0; i < uri_.query.size(); ++i) {
    const std::string& key = uri_.query[i].first;
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    const bool shown = !MayHoldSecrets();
    return absl::InvalidArgumentError(absl::StrCat(
        "option ", shown ? absl::StrCat("\"", key, "\"") : absl::StrCat(i + 1), " is unknown; ",
        known_.empty() ? "this transport takes none" : absl::StrCat("known: ", absl::StrJoin(known_, ", ")),
        shown ? "" : "; in a password write '?' as %3F, '&' as %26"));
  }
  return absl::OkStatus();
}

void QueryWriter::Add(absl::string_view name, absl::string_view value) {
  absl::StrAppend(&text_, text_.empty() ? "?" : "&", name, "=");
  for (char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f || c == '%' || c == '&' || c == '?' || c == '=') {
      absl::StrAppend(&text_, "%", absl::Hex(byte, absl::kZeroPad2));
    } else {
      text_.push_back(c);
    }
  }
}

void QueryWriter::AddSecret(absl::string_view name, const Secret& secret, bool masked) {
  Add(name, secret.Written(masked, [](absl::string_view text) { return std::string(text); }));
}

}  // namespace eventvirtual
