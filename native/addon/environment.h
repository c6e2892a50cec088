// What belongs to one Node environment (the main thread or a worker): its session, and the way back from the stream's
// thread to JavaScript.
#pragma once
#include <napi.h>

#include <functional>
#include <map>
#include <memory>

#include "core/capture.h"

namespace cambium {

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  Session& session() {
    if (!session_) fail("E_CLOSED", "addon: expected an open environment, got one that is shutting down");
    return *session_;
  }
  void replace_session(std::unique_ptr<Session> session) { session_ = std::move(session); }  // the old one has no tensors
  std::map<int64_t, std::unique_ptr<Capture>> captures;
  int64_t last_capture = 0;

  void close();  // stops the stream; called before the environment goes

  // A promise that settles when the stream gets here: with `value` on success, with the failure so far otherwise.
  Napi::Promise settle(Napi::Env env, std::function<Napi::Value(Napi::Env)> value);

  // A promise that settles when the stream gets here: true, or false after a failure, which stays to be told.
  Napi::Promise passed(Napi::Env env);

  // As an error of its own, not the stream's: `failure` is looked at when the stream gets here.
  Napi::Promise settle(Napi::Env env, std::shared_ptr<Failure> failure, std::function<Napi::Value(Napi::Env)> value);

 private:
  struct Completion;
  void queue(Napi::Env env, Completion* completion);
  static void complete(Napi::Env env, Napi::Function, Environment* self, Completion* completion);
  using Channel = Napi::TypedThreadSafeFunction<Environment, Completion, complete>;

  std::unique_ptr<Session> session_;
  Channel channel_;
  size_t pending_ = 0;
};

}  // namespace cambium
