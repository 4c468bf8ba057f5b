// Threads that help a caller with a job made of pieces, and sleep between jobs. Nothing of CUDA here.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fused_topk {

class CopyThreads {
 public:
  using Body = std::function<void(size_t piece)>;

  // No thread is started before the first job that has a piece for it.
  explicit CopyThreads(size_t helpers) : helpers_(helpers) {}
  // No job may be under way.
  ~CopyThreads();

  // Does pieces 0 to `pieces` - 1, begun in this order, on this thread and on the helpers that are free. Returns when every
  // piece that was begun has ended. The first exception of a piece is thrown again, and none is begun after it. Several
  // threads may bring jobs at the same time: each does its own even where no helper comes.
  void run(size_t pieces, const Body& body);

 private:
  struct Job;

  void help();
  void do_pieces(Job& job);
  void start_helpers();

  const size_t helpers_;
  std::mutex mutex_;
  std::condition_variable job_came_, helper_left_;
  std::vector<std::thread> threads_;
  std::vector<Job*> jobs_;  // the callers are in run
  bool stopping_ = false;
};

}  // namespace fused_topk
