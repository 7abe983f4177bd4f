// Somebody who may write into an allowed directory swaps a part of the path for a link to the outside, again and again,
// while flatstore opens, writes, renames and opens again.
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "tests/transports/flatstore/flat_directory.h"
#include "transports/api/message.h"
#include "transports/flatstore/flat_file.h"
#include "transports/io/destination_gate.h"

namespace eventvirtual {
namespace {

int Swaps() {
  const char* const wanted = std::getenv("SYMLINK_SWAPS");  // 100000 for a thorough run
  int swaps = 5000;
  if (wanted != nullptr) {
    EXPECT_TRUE(absl::SimpleAtoi(wanted, &swaps));
  }
  return swaps;
}

// Everything that is done in a directory that leaves a trace: what is opened, made, renamed, written, removed.
class Witness {
 public:
  explicit Witness(const std::string& directory) {
    EXPECT_GE(inotify_add_watch(fd_, directory.c_str(), IN_ALL_EVENTS), 0);
  }
  ~Witness() { close(fd_); }
  bool SawAnything() {
    char event[4096];
    return read(fd_, event, sizeof(event)) > 0;
  }

 private:
  const int fd_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
};

class SymlinkSwapTest : public testing::Test {
 protected:
  SymlinkSwapTest() {
    for (const char* name : {"allowed", "allowed/logs", "outside"}) std::filesystem::create_directory(Path(name));
    directory_.Write("outside/calls.log", "theirs\n");
    std::filesystem::create_directory_symlink(Path("outside"), Path("allowed/other"));
    DestinationPolicy policy;
    EXPECT_TRUE(policy.AllowDirectory(Path("allowed")).ok());
    SetDestinationPolicy(std::make_shared<const DestinationPolicy>(policy));
  }
  ~SymlinkSwapTest() override { SetDestinationPolicy(nullptr); }

  std::string Path(const std::string& name) const { return directory_.Path(name); }

  // `logs` and `other` change places, so that the path leads inside and outside in turn.
  void Swap() const {
    ASSERT_EQ(
        renameat2(AT_FDCWD, Path("allowed/logs").c_str(), AT_FDCWD, Path("allowed/other").c_str(), RENAME_EXCHANGE), 0);
  }

  FlatDirectory directory_;
};

TEST_F(SymlinkSwapTest, TheWitnessSeesAnOpen) {
  Witness witness(Path("outside"));
  EXPECT_FALSE(witness.SawAnything());
  close(open(Path("outside/calls.log").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(witness.SawAnything());
}

TEST_F(SymlinkSwapTest, NothingOutsideIsEverOpened) {
  Witness witness(Path("outside"));
  std::atomic<bool> done = false, both = false;
  std::thread attacker([&] {
    const absl::Time give_up = absl::Now() + absl::Minutes(1);
    for (int i = Swaps(); i > 0 || (!both && absl::Now() < give_up); --i) Swap();
    done = true;
  });
  const std::vector<MessageRef> event = {Message::Make({.name = "E"})};
  uint64_t written = 0, refused = 0;
  while (!done) {
    FlatFileOptions options;
    options.path = Path("allowed/logs/calls.log");
    options.rotate_count = 2;
    options.sync = true;
    FlatFile file(options);
    for (int i = 0; i < 5; ++i) {
      const FlatFile::Appended appended = file.Append(event, absl::FromUnixSeconds(1800000000));
      ++(appended.lines == 1 ? written : refused);
    }
    both = written > 0 && refused > 0;
  }
  attacker.join();
  EXPECT_FALSE(witness.SawAnything());
  EXPECT_EQ(directory_.Read("outside/calls.log"), "theirs\n");
  // Both happened, or nothing was tested.
  EXPECT_GT(written, 0u);
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace eventvirtual
