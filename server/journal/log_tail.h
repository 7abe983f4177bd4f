// UnreadableCommits: what SQLite drops from its write-ahead log without a word.
#ifndef EVENTVIRTUAL_SERVER_JOURNAL_LOG_TAIL_H_
#define EVENTVIRTUAL_SERVER_JOURNAL_LOG_TAIL_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace eventvirtual {

// How many commits stand in the log `path` behind the place where its checksums are wrong: SQLite reads up to there and
// takes the rest for the torn end of the last commit, which leaves one at most when each is synced. 0 when there is no
// log. Blocks. https://www.sqlite.org/fileformat2.html#the_write_ahead_log
absl::StatusOr<size_t> UnreadableCommits(const std::string& path);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_JOURNAL_LOG_TAIL_H_
