// Table: text in columns that line up.
#ifndef EVENTVIRTUAL_CLIENT_TABLE_H_
#define EVENTVIRTUAL_CLIENT_TABLE_H_

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace eventvirtual {

// Rows of equal length; the first is the heading. Print() writes them to stdout, the last column unpadded.
class Table {
 public:
  explicit Table(std::vector<std::string> heading) : rows_{std::move(heading)} {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  void Print() const {
    std::vector<size_t> widths(rows_[0].size(), 0);
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows_) {
      std::string line;
      for (size_t i = 0; i < row.size(); ++i) {
        line += row[i];
        if (i + 1 < row.size()) line.append(widths[i] - row[i].size() + 2, ' ');
      }
      std::printf("%s\n", line.c_str());
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_CLIENT_TABLE_H_
