// The ops, one line each: name and function. Arguments are converted by type, the result is a handle in the scope.
#include "addon/bind.h"

namespace cambium {
namespace {

template <auto F>
struct Op;
template <class... Args, Tensor (*F)(Session&, Args...)>
struct Op<F> {
  template <size_t... I>
  static Napi::Value call(const Napi::CallbackInfo& info, std::index_sequence<I...>) {
    Environment& e = Environment::of(info.Env());
    Session& s = e.session();
    s.handles().require_scope(static_cast<const char*>(info.Data()));
    return to_js(info.Env(), s.handles().add(F(s, From<std::decay_t<Args>>::get(e, info[I])...), true));
  }
  static Napi::Value run(const Napi::CallbackInfo& info) {
    return guard(info.Env(), [&] { return call(info, std::index_sequence_for<Args...>{}); });
  }
};

template <auto F>
void op(Napi::Env env, Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New(env, Op<F>::run, name, const_cast<char*>(name)));
}

}  // namespace

void bind_ops(Napi::Env env, Napi::Object& exports) {
  op<linear>(env, exports, "linear");
  op<layer_norm>(env, exports, "layerNorm");
  op<attention>(env, exports, "attention");
  op<pooled_attention>(env, exports, "pooledAttention");
  op<patchify>(env, exports, "patchify");
  op<class_tokens>(env, exports, "classTokens");
  op<token_embed>(env, exports, "tokenEmbed");
  op<gather_rows>(env, exports, "gatherRows");
  op<scale_rows>(env, exports, "scaleRows");
  op<l2_normalize>(env, exports, "l2Normalize");
  op<contrastive>(env, exports, "contrastive");
  op<cross_entropy>(env, exports, "crossEntropy");
  op<sum>(env, exports, "sum");
  op<add>(env, exports, "add");
  op<multiply>(env, exports, "multiply");
  op<scale>(env, exports, "scale");
  op<reshape>(env, exports, "reshape");
  op<slice_rows>(env, exports, "sliceRows");
  op<cast>(env, exports, "cast");
  op<dropout>(env, exports, "dropout");
  op<low_rank_norm>(env, exports, "lowRankNorm");
  op<concat_rows>(env, exports, "concatRows");
  op<interpolate>(env, exports, "interpolate");
}

}  // namespace cambium
