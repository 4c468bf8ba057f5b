// The functions that JavaScript sees. They unpack arguments, which packages/cuda/src has validated, and start a Task.
//
//   open(device): Promise<{ context, device }>
//   softmaxTopK(context, Uint8Array | bigint, shape, probs, indices, logSumExp): Promise<void>
//   upload(context, Uint8Array): Promise<bigint>      free(context, bigint): Promise<void>
//   isDeviceMemory(context, bigint): boolean          dispose(context): Promise<void>
//   measure(context, request, Uint8Array): Promise<measurement>
//   maxK, maxRows, maxVocab: number                   regimes: string[]
//
// Nothing is shared between the environments of a process but the device itself.
#include <napi.h>

#include <memory>

#include "context.h"
#include "measure.h"
#include "task.h"

namespace fused_topk {
namespace {

using ContextHandle = Napi::External<std::shared_ptr<Context>>;

std::shared_ptr<Context> context_of(const Napi::Value& value) { return *value.As<ContextHandle>().Data(); }

double number(const Napi::Object& from, const char* name) { return from.Get(name).As<Napi::Number>().DoubleValue(); }

DType dtype_of(const Napi::Object& from) {
  const std::string name = from.Get("dtype").As<Napi::String>();
  return name == "f32" ? DType::f32 : name == "f16" ? DType::f16 : DType::bf16;
}

void* address_of(const Napi::Value& value) {
  bool lossless;
  return reinterpret_cast<void*>(static_cast<uintptr_t>(value.As<Napi::BigInt>().Uint64Value(&lossless)));
}

Napi::Value undefined(Napi::Env env) { return env.Undefined(); }

Napi::Value open(const Napi::CallbackInfo& info) {
  const int device = info[0].As<Napi::Number>();
  auto context = std::make_shared<std::shared_ptr<Context>>();
  return Task::start(
      info.Env(), [=] { *context = std::make_shared<Context>(device); },
      [=](Napi::Env env) -> Napi::Value {
        Napi::Object opened = Napi::Object::New(env);
        opened.Set("context", ContextHandle::New(env, new std::shared_ptr<Context>(*context),
                                                 [](Napi::Env, std::shared_ptr<Context>* held) { delete held; }));
        opened.Set("device", (*context)->name());
        return opened;
      });
}

Napi::Value softmax_topk(const Napi::CallbackInfo& info) {
  const auto context = context_of(info[0]);
  const Napi::Object options = info[2].As<Napi::Object>();
  LogitsView logits{};
  std::vector<Napi::Object> keep = {info[3].As<Napi::Object>(), info[4].As<Napi::Object>(), info[5].As<Napi::Object>()};
  logits.on_device = info[1].IsBigInt();
  if (logits.on_device) {
    logits.data = address_of(info[1]);
  } else {
    logits.data = info[1].As<Napi::Uint8Array>().Data();
    keep.push_back(info[1].As<Napi::Object>());
  }
  logits.dtype = dtype_of(options);
  logits.offset = static_cast<uint64_t>(number(options, "offset"));
  logits.row_stride = static_cast<uint64_t>(number(options, "rowStride"));
  const CallShape shape{static_cast<uint32_t>(number(options, "rows")), static_cast<uint32_t>(number(options, "vocab")),
                        static_cast<uint32_t>(number(options, "k")), number(options, "temperature")};
  const CallResults results{info[3].As<Napi::Float32Array>().Data(), info[4].As<Napi::Uint32Array>().Data(),
                            info[5].As<Napi::Float32Array>().Data()};
  return Task::start(
      info.Env(), [=] { context->softmax_topk(logits, shape, results); }, undefined, std::move(keep));
}

Napi::Value upload(const Napi::CallbackInfo& info) {
  const auto context = context_of(info[0]);
  const auto bytes = info[1].As<Napi::Uint8Array>();
  const void* const from = bytes.Data();
  const size_t length = bytes.ByteLength();
  auto memory = std::make_shared<void*>();
  return Task::start(
      info.Env(), [=] { *memory = context->upload(from, length); },
      [=](Napi::Env env) -> Napi::Value { return Napi::BigInt::New(env, reinterpret_cast<uint64_t>(*memory)); },
      {bytes});
}

Napi::Value free_upload(const Napi::CallbackInfo& info) {
  const auto context = context_of(info[0]);
  void* const memory = address_of(info[1]);
  return Task::start(
      info.Env(), [=] { context->free_upload(memory); }, undefined);
}

Napi::Value is_device_memory(const Napi::CallbackInfo& info) {
  try {
    return Napi::Boolean::New(info.Env(), context_of(info[0])->is_device_memory(address_of(info[1])));
  } catch (const Failure& failure) {
    throw to_error(info.Env(), failure);
  }
}

Napi::Value dispose(const Napi::CallbackInfo& info) {
  const auto context = context_of(info[0]);
  return Task::start(
      info.Env(), [=] { context->release(); }, undefined);
}

template <class Array, class T>
Array to_array(Napi::Env env, const std::vector<T>& values) {
  Array array = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Value measure_variant(const Napi::CallbackInfo& info) {
  const auto context = context_of(info[0]);
  const Napi::Object options = info[1].As<Napi::Object>();
  MeasureRequest request{};
  const std::string variant = options.Get("variant").As<Napi::String>();
  request.variant = variant == "fused"           ? Variant::fused
                    : variant == "unfused"       ? Variant::unfused
                    : variant == "three-pass"    ? Variant::three_pass
                    : variant == "read-floor"    ? Variant::read_floor
                    : variant == "read-exp"      ? Variant::read_exp
                    : variant == "read-two-exps" ? Variant::read_two_exps
                                                 : Variant::pinned_copy;
  request.dtype = dtype_of(options);
  request.rows = static_cast<uint32_t>(number(options, "rows"));
  request.vocab = static_cast<uint32_t>(number(options, "vocab"));
  request.k = static_cast<uint32_t>(number(options, "k"));
  request.template_rows = static_cast<uint32_t>(number(options, "templateRows"));
  request.sets = static_cast<uint32_t>(number(options, "sets"));
  request.repeats = static_cast<uint32_t>(number(options, "repeats"));
  request.path = options.Get("path").As<Napi::String>().Utf8Value();
  const auto rows = info[2].As<Napi::Uint8Array>();
  request.host_template = rows.Data();
  auto measurement = std::make_shared<Measurement>();
  return Task::start(
      info.Env(),
      [=] {
        context->enter();
        const MeasureStatus status = measure(request, context->properties(), measurement.get());
        require(status.cuda, "measure");
        if (!status.ok()) throw Failure("ERR_INVALID_ARGUMENT", status.message);
      },
      [=](Napi::Env env) -> Napi::Value {
        Napi::Object out = Napi::Object::New(env);
        out.Set("microseconds", to_array<Napi::Float64Array>(env, measurement->microseconds));
        out.Set("probs", to_array<Napi::Float32Array>(env, measurement->probs));
        out.Set("indices", to_array<Napi::Uint32Array>(env, measurement->indices));
        out.Set("logSumExp", to_array<Napi::Float32Array>(env, measurement->log_sum_exp));
        out.Set("launches", Napi::Number::New(env, measurement->launches));
        out.Set("bytesWritten", Napi::Number::New(env, static_cast<double>(measurement->bytes_written)));
        out.Set("scratchBytes", Napi::Number::New(env, static_cast<double>(measurement->scratch_bytes)));
        out.Set("path", measurement->path);
        return out;
      },
      {rows});
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("open", Napi::Function::New(env, open));
  exports.Set("softmaxTopK", Napi::Function::New(env, softmax_topk));
  exports.Set("upload", Napi::Function::New(env, upload));
  exports.Set("free", Napi::Function::New(env, free_upload));
  exports.Set("isDeviceMemory", Napi::Function::New(env, is_device_memory));
  exports.Set("dispose", Napi::Function::New(env, dispose));
  exports.Set("measure", Napi::Function::New(env, measure_variant));
  exports.Set("maxK", Napi::Number::New(env, kMaxK));
  exports.Set("maxRows", Napi::Number::New(env, kMaxRows));
  exports.Set("maxVocab", Napi::Number::New(env, kMaxVocab));
  Napi::Array regimes = Napi::Array::New(env, kRegimes);
  for (uint32_t i = 0; i < kRegimes; i++) regimes.Set(i, name_of(static_cast<Regime>(i)));
  exports.Set("regimes", regimes);
  return exports;
}

}  // namespace
}  // namespace fused_topk

static Napi::Object initialize(Napi::Env env, Napi::Object exports) { return fused_topk::initialize(env, exports); }
NODE_API_MODULE(fused_topk_cuda, initialize)
