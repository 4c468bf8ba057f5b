// Work off the JavaScript thread, as a promise.
#pragma once

#include <napi.h>

#include <functional>
#include <utility>
#include <vector>

#include "failure.h"

namespace fused_topk {

// Runs `work` on a worker thread; the promise resolves, on the JavaScript thread, with what `value` makes, or rejects
// with an Error that carries the Failure's code. `keep` stays alive in between.
class Task : public Napi::AsyncWorker {
 public:
  using Work = std::function<void()>;
  using Value = std::function<Napi::Value(Napi::Env)>;

  static Napi::Promise start(Napi::Env env, Work work, Value value, std::vector<Napi::Object> keep = {}) {
    Task* const task = new Task(env, std::move(work), std::move(value));
    for (Napi::Object& object : keep) task->kept_.push_back(Napi::Persistent(object));
    const Napi::Promise promise = task->deferred_.Promise();
    task->Queue();
    return promise;
  }

 private:
  Task(Napi::Env env, Work work, Value value)
      : Napi::AsyncWorker(env), deferred_(env), work_(std::move(work)), value_(std::move(value)) {}

  void Execute() override {
    try {
      work_();
    } catch (const Failure& failure) {
      code_ = failure.code;
      SetError(failure.what());
    } catch (const std::bad_alloc&) {
      code_ = "ERR_OUT_OF_MEMORY";
      SetError("Host memory did not suffice.");
    }
  }
  void OnOK() override { deferred_.Resolve(value_(Env())); }
  void OnError(const Napi::Error& error) override {
    error.Set("code", Napi::String::New(Env(), code_));
    deferred_.Reject(error.Value());
  }

  Napi::Promise::Deferred deferred_;
  Work work_;
  Value value_;
  std::string code_ = "ERR_DEVICE";
  std::vector<Napi::ObjectReference> kept_;
};

}  // namespace fused_topk
