#include "addon/environment.h"

#include "addon/convert.h"
#include "cpu/backend.h"

namespace cambium {

struct Environment::Completion {
  Napi::Promise::Deferred deferred;
  std::function<Napi::Value(Napi::Env)> value;
  std::shared_ptr<Failure> own;
  bool tells = true;
  Failure stream = {};
};

Environment::Environment(Napi::Env env) : session_(new Session(cpu_backend())) {
  channel_ = Channel::New(env, "cambium", 0, 1, this);
  channel_.Unref(env);
}

Environment::~Environment() { close(); }

void Environment::close() {
  if (!session_) return;
  captures.clear();
  session_.reset();
  channel_.Release();
}

void Environment::complete(Napi::Env env, Napi::Function, Environment* self, Completion* completion) {
  std::unique_ptr<Completion> owned(completion);
  if (env == nullptr) return;  // the environment is going away: nobody waits any more
  Napi::HandleScope scope(env);
  if (--self->pending_ == 0) self->channel_.Unref(env);
  if (!completion->tells) return completion->deferred.Resolve(Napi::Boolean::New(env, !completion->stream));
  const Failure& failure = completion->stream ? completion->stream : completion->own ? *completion->own : completion->stream;
  if (failure) {
    if (completion->stream && self->session_) self->session_->told(failure);
    completion->deferred.Reject(to_js_error(env, failure.code, failure.message).Value());
    return;
  }
  try {
    completion->deferred.Resolve(completion->value(env));
  } catch (const Napi::Error& error) {
    completion->deferred.Reject(error.Value());
  } catch (const std::exception& error) {
    completion->deferred.Reject(to_js_error(env, "E_OUT_OF_MEMORY", error.what()).Value());
  }
}

Napi::Promise Environment::settle(Napi::Env env, std::function<Napi::Value(Napi::Env)> value) { return settle(env, nullptr, std::move(value)); }

Napi::Promise Environment::settle(Napi::Env env, std::shared_ptr<Failure> failure, std::function<Napi::Value(Napi::Env)> value) {
  auto* completion = new Completion{Napi::Promise::Deferred::New(env), std::move(value), std::move(failure)};
  const Napi::Promise promise = completion->deferred.Promise();
  queue(env, completion);
  return promise;
}

Napi::Promise Environment::passed(Napi::Env env) {
  auto* completion = new Completion{Napi::Promise::Deferred::New(env), nullptr, nullptr, false};
  const Napi::Promise promise = completion->deferred.Promise();
  queue(env, completion);
  return promise;
}

void Environment::queue(Napi::Env env, Completion* completion) {
  if (pending_++ == 0) channel_.Ref(env);
  session().stream().always([this, completion](const Failure& failure) {
    completion->stream = failure;
    if (channel_.NonBlockingCall(completion) != napi_ok) delete completion;
  });
}

}  // namespace cambium
