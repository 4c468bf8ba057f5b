#include "copy_threads.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <system_error>

namespace fused_topk {

struct CopyThreads::Job {
  const Body& body;
  const size_t pieces;
  std::atomic<size_t> begun{0};
  size_t helping = 0;  // this and what follows under mutex_
  std::exception_ptr failure{};

  bool has_more() const { return begun.load(std::memory_order_relaxed) < pieces; }
};

CopyThreads::~CopyThreads() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  job_came_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void CopyThreads::run(size_t pieces, const Body& body) {
  Job job{body, pieces};
  if (pieces > 1) {
    const std::lock_guard<std::mutex> lock(mutex_);
    start_helpers();
    jobs_.push_back(&job);
    job_came_.notify_all();
  }
  do_pieces(job);
  std::unique_lock<std::mutex> lock(mutex_);
  jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
  helper_left_.wait(lock, [&] { return job.helping == 0; });
  if (job.failure) std::rethrow_exception(job.failure);
}

void CopyThreads::help() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    auto job = jobs_.end();
    job_came_.wait(lock, [&] {
      job = std::find_if(jobs_.begin(), jobs_.end(), [](const Job* j) { return j->has_more(); });
      return stopping_ || job != jobs_.end();
    });
    if (stopping_) return;
    Job& helped = **job;
    helped.helping++;
    lock.unlock();
    do_pieces(helped);
    lock.lock();
    if (--helped.helping == 0) helper_left_.notify_all();
  }
}

void CopyThreads::do_pieces(Job& job) {
  try {
    for (size_t piece; (piece = job.begun++) < job.pieces;) job.body(piece);
  } catch (...) {
    job.begun = job.pieces;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!job.failure) job.failure = std::current_exception();
  }
}

void CopyThreads::start_helpers() {
  try {
    while (threads_.size() < helpers_) threads_.emplace_back(&CopyThreads::help, this);
  } catch (const std::system_error&) {
    // The system gives no more threads: those that there are do the work.
  }
}

}  // namespace fused_topk
