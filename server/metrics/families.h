// Families: metric families of prometheus-cpp, put together in the order in which they are to be read.
#ifndef EVENTVIRTUAL_SERVER_METRICS_FAMILIES_H_
#define EVENTVIRTUAL_SERVER_METRICS_FAMILIES_H_

#include <prometheus/metric_family.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "simdjson.h"

namespace eventvirtual {

// One of the families, to be filled.
class Family {
 public:
  using Labels = std::initializer_list<std::pair<const char*, absl::string_view>>;

  Family(std::vector<prometheus::MetricFamily>* all, size_t index) : all_(all), index_(index) {}

  void Add(Labels labels, double value) {
    prometheus::ClientMetric& metric = New(labels);
    ((*all_)[index_].type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  void Add(Labels labels, uint64_t value) { Add(labels, static_cast<double>(value)); }
  void Add(Labels labels, prometheus::ClientMetric::Histogram histogram) {
    New(labels).histogram = std::move(histogram);
  }

 private:
  prometheus::ClientMetric& New(Labels labels) {
    prometheus::ClientMetric& metric = (*all_)[index_].metric.emplace_back();
    for (const auto& [name, value] : labels) metric.label.push_back({name, Utf8(value)});
    return metric;
  }
  // Prometheus takes no scrape in which a label is no UTF-8; a URI may hold any bytes.
  static std::string Utf8(absl::string_view text) {
    std::string valid(text);
    if (simdjson::validate_utf8(valid)) return valid;
    for (char& c : valid) {
      if (static_cast<unsigned char>(c) >= 0x80) c = '?';
    }
    return valid;
  }

  std::vector<prometheus::MetricFamily>* all_;
  size_t index_;
};

class Families {
 public:
  Family Counter(const char* name, const char* help) { return New(name, help, prometheus::MetricType::Counter); }
  Family Gauge(const char* name, const char* help) { return New(name, help, prometheus::MetricType::Gauge); }
  Family Histogram(const char* name, const char* help) { return New(name, help, prometheus::MetricType::Histogram); }

  const std::vector<prometheus::MetricFamily>& all() const { return all_; }

 private:
  Family New(const char* name, const char* help, prometheus::MetricType type) {
    all_.push_back({name, help, type, {}});
    return Family(&all_, all_.size() - 1);
  }
  std::vector<prometheus::MetricFamily> all_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_METRICS_FAMILIES_H_
