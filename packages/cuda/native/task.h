// Work off the JavaScript thread, as a promise.
#pragma once

#include <napi.h>

#include <functional>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "failure.h"

namespace fused_topk {

// The Error that JavaScript gets for a Failure: with its code, and its fix where there is one.
inline Napi::Error to_error(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.what());
  error.Set("code", Napi::String::New(env, failure.code));
  if (!failure.fix.empty()) error.Set("fix", Napi::String::New(env, failure.fix));
  return error;
}

// Runs `work` on a worker thread; the promise resolves, on the JavaScript thread, with what `value` makes, or rejects
// with the Error of what either threw. `keep` stays alive in between. Where the environment ends first the promise
// stays unsettled: nobody is left to see it.
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
    failure_ = caught(work_);
    if (failure_) SetError(failure_->what());
  }
  void OnOK() override {
    Napi::Value value;
    try {
      failure_ = caught([&] { value = value_(Env()); });
    } catch (const Napi::Error& error) {
      return deferred_.Reject(error.Value());
    }
    if (failure_) return deferred_.Reject(to_error(Env(), *failure_).Value());
    deferred_.Resolve(value);
  }
  void OnError(const Napi::Error&) override { deferred_.Reject(to_error(Env(), *failure_).Value()); }

  // What `action` throws, but for an error of JavaScript.
  static std::optional<Failure> caught(const Work& action) {
    try {
      action();
    } catch (const Napi::Error&) {
      throw;
    } catch (const Failure& failure) {
      return failure;
    } catch (const std::bad_alloc&) {
      return Failure("ERR_OUT_OF_MEMORY", "Host memory did not suffice.");
    } catch (const std::exception& other) {
      return Failure("ERR_DEVICE", other.what());
    }
    return std::nullopt;
  }

  Napi::Promise::Deferred deferred_;
  Work work_;
  Value value_;
  std::optional<Failure> failure_;
  std::vector<Napi::ObjectReference> kept_;
};

}  // namespace fused_topk
