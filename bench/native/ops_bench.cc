// Times op kernels of the CPU backend at the shapes of CLIP B/16 (batch 8) and prints GF/s or GB/s: medians of repeated
// runs at the level in force (CAMBIUM_CPU) with CAMBIUM_THREADS threads. With one thread the time is the CPU time of
// the process, so that a busy machine disturbs less; with more it is wall time. Operands are random: zeros would be
// faster. What moves memory is measured in turns with a copy of as many bytes, half of them read: that is its limit,
// and the last column its share. The limit of products is gemm_bench's.
//   usage: ops_bench [part of a name]
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "cpu/gemm/gemm.h"
#include "cpu/parallel.h"

namespace {

const char* filter = "";

// Scratch memory that is kept between calls, as the pool of a stream keeps it.
struct Context {
  CbContext c;
  std::vector<std::pair<size_t, std::unique_ptr<char[]>>> blocks;
  size_t next = 0;
  Context() {
    c.stream = this;
    c.message = nullptr;
    c.scratch = [](CbContext* context, size_t bytes) -> void* {
      auto& owner = *static_cast<Context*>(context->stream);
      if (owner.next == owner.blocks.size()) owner.blocks.emplace_back();
      auto& block = owner.blocks[owner.next++];
      if (block.first < bytes) block = {bytes, std::make_unique<char[]>(bytes + 64)};
      return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(block.second.get()) + 63) / 64 * 64);
    };
  }
};

std::vector<char> random_tensor(int64_t count, int32_t type) {
  std::vector<char> bytes(size_t(count) * (type == CB_F32 ? 4 : 2));
  uint64_t state = 88172645463325252ull;
  for (int64_t i = 0; i < count; ++i) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    const float x = float(int64_t(state >> 40) - (1 << 23)) / float(1 << 23);
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (type == CB_F32)
      std::memcpy(&bytes[size_t(i) * 4], &x, 4);
    else
      std::memcpy(&bytes[size_t(i) * 2], reinterpret_cast<char*>(&bits) + 2, 2);
  }
  return bytes;
}

double now() {
  timespec t;
  clock_gettime(cambium::thread_count() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

// Whether any case whose name starts like this is asked for: others are not even set up.
bool wanted(const std::string& name) {
  return (name + " forward+backward").find(filter) != std::string::npos || std::string(filter).find(name) == 0;
}

double median(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

// Median seconds of a call, over at least 0.3 s and 7 runs.
void report(const std::string& name, double work, const char* unit, const std::function<int(CbContext*)>& call) {
  if (name.find(filter) == std::string::npos) return;
  const bool moves = std::strcmp(unit, "GB/s") == 0;
  const size_t half = moves ? size_t(work / 2) : 0;
  std::vector<char> from(half, 1), to(half, 2);
  Context context;
  std::vector<double> seconds, copies;
  double total = 0;
  for (int run = -1; run < 7 || total < 0.3; ++run) {
    context.next = 0;
    const double start = now();
    if (call(&context.c) != CB_OK) std::abort();
    const double end = now();
    if (moves) std::memcpy(to.data(), from.data(), half);
    __asm__ volatile("" : : "r"(to.data()) : "memory");  // or the copy is left out
    if (run < 0) continue;
    seconds.push_back(end - start), copies.push_back(now() - end), total += end - start;
  }
  const double middle = median(seconds);
  std::printf("%-52s %9.3f ms %8.1f %s", name.c_str(), middle * 1e3, work / middle / 1e9, unit);
  if (moves) std::printf(" of %5.1f: %3.0f %%", work / median(copies) / 1e9, 100 * median(copies) / middle);
  std::printf("\n");
  std::fflush(stdout);
}

const Backend& backend() { return *cambium::cpu_backend(); }
const char* type_name(int32_t type) { return type == CB_F32 ? "f32" : "bf16"; }

void attention(int64_t batch, int64_t n, int64_t heads, int64_t width, bool causal, int32_t type) {
  const int64_t m = batch * n, d = heads * width;
  const std::string name = std::string("attention ") + type_name(type) + " n=" + std::to_string(n) +
                           " K=" + std::to_string(width) + (causal ? " causal" : "");
  if (!wanted(name)) return;
  std::vector<int32_t> offsets;
  for (int64_t b = 0; b <= batch; ++b) offsets.push_back(int32_t(b * n));
  auto qkv = random_tensor(m * 3 * d, type), y = random_tensor(m * d, type), dy = random_tensor(m * d, type),
       dqkv = qkv;
  std::vector<float> lse(size_t(heads * m));
  attention_args f{batch, m, d, heads, n, qkv.data(), type, causal, offsets.data(), y.data(), lse.data(), {}};
  attention_grads g{&f, dy.data(), dqkv.data(), {}};
  const double product = 2.0 * double(batch * heads * n * n * width) * (causal ? 0.5 : 1);
  report(name + " forward", 2 * product, "GF/s", [&](CbContext* c) { return backend().attention_forward(c, &f); });
  report(name + " backward", 5 * product, "GF/s", [&](CbContext* c) { return backend().attention_backward(c, &g); });
}

// Attention without and with a branch of slots in turn, and the branch's share: medians of CPU or wall times, as above.
void branch(int64_t batch, int64_t n, int64_t heads, int64_t slots, bool causal, int32_t type) {
  const std::string name = std::string("branch ") + type_name(type) + " n=" + std::to_string(n) + " l=" + std::to_string(slots) +
                           (causal ? " causal" : "");
  if (name.find(filter) == std::string::npos) return;
  const int64_t m = batch * n, d = heads * 64;
  std::vector<int32_t> offsets;
  for (int64_t b = 0; b <= batch; ++b) offsets.push_back(int32_t(b * n));
  auto qkv = random_tensor(m * 3 * d, type), y = random_tensor(m * d, type), dy = random_tensor(m * d, type), dqkv = qkv;
  auto keys = random_tensor(slots * d, CB_F32), values = keys, dkeys = keys, dvalues = keys;
  std::vector<float> lse(size_t(heads * m));
  const auto f32 = [](std::vector<char>& t) { return reinterpret_cast<float*>(t.data()); };
  attention_args f[2] = {{batch, m, d, heads, n, qkv.data(), type, causal, offsets.data(), y.data(), lse.data(), {}}};
  f[1] = f[0];
  f[1].branch = {1, slots, f32(keys), f32(values), nullptr, nullptr, 0};
  attention_grads g[2] = {{&f[0], dy.data(), dqkv.data(), {}}, {&f[1], dy.data(), dqkv.data(), {f32(dkeys), f32(dvalues), 0, 0}}};
  attention_grads bank = g[1];
  bank.dqkv = nullptr;
  Context context;
  std::vector<double> seconds[5], share[3];  // forward, backward without and with; backward of the branch alone
  for (int run = -2; run < 31; ++run) {
    double took[5];
    for (int i = 0; i < 5; ++i) {
      context.next = 0;
      const double start = now();
      if (i < 2) backend().attention_forward(&context.c, &f[i]);
      else backend().attention_backward(&context.c, i == 4 ? &bank : &g[i - 2]);
      took[i] = now() - start;
    }
    for (int i = 0; run >= 0 && i < 5; ++i) seconds[i].push_back(took[i]);
    if (run < 0) continue;
    share[0].push_back(took[1] / took[0]), share[1].push_back(took[3] / took[2]);
    share[2].push_back((took[1] + took[3]) / (took[0] + took[2]));
  }
  std::printf("%-32s forward %.3f -> %.3f ms (%.3f), backward %.3f -> %.3f ms (%.3f), both (%.3f); of the bank alone %.3f ms\n", name.c_str(),
              median(seconds[0]) * 1e3, median(seconds[1]) * 1e3, median(share[0]), median(seconds[2]) * 1e3,
              median(seconds[3]) * 1e3, median(share[1]), median(share[2]), median(seconds[4]) * 1e3);
}

void layer_norm(int64_t m, int64_t d, int32_t y_type) {
  const std::string name = std::string("layer_norm f32 -> ") + type_name(y_type) + " d=" + std::to_string(d);
  if (!wanted(name)) return;
  auto x = random_tensor(m * d, CB_F32), w = random_tensor(d, CB_F32), b = w, y = random_tensor(m * d, y_type), dx = x,
       normalized = y;
  std::vector<float> rstd(size_t(m), 1);
  const auto f32 = [](std::vector<char>& t) { return reinterpret_cast<float*>(t.data()); };
  layer_norm_args f{m, d, x.data(), CB_F32, f32(w), f32(b), 1e-5f, y.data(), y_type, normalized.data(), rstd.data()};
  layer_norm_grads g{&f, y.data(), dx.data(), CB_F32, 1, nullptr, nullptr, 0, 0};
  const double element = y_type == CB_F32 ? 4 : 2;
  report(name + " forward", double(m * d) * (4 + 2 * element), "GB/s",
         [&](CbContext* c) { return backend().layer_norm_forward(c, &f); });
  report(name + " backward, accumulate", double(m * d) * (8 + 2 * element), "GB/s",
         [&](CbContext* c) { return backend().layer_norm_backward(c, &g); });
  auto dw = w, db = w;
  g.dweight = f32(dw), g.dbias = f32(db);
  report(name + " backward with weight", double(m * d) * (8 + 2 * element), "GB/s",
         [&](CbContext* c) { return backend().layer_norm_backward(c, &g); });
}

struct Linear {
  const char* name;
  int64_t m, in, out;
  int32_t type, act;
  bool residual, adapter;  // adapter: [in,out] f32 weight that trains, with skip
};

void linear(const Linear& l) {
  const int64_t m = l.m, in = l.in, out = l.out;
  const std::string name = std::string("linear ") + type_name(l.type) + " " + l.name;
  if (!wanted(name)) return;
  const int32_t w_type = l.adapter ? CB_F32 : l.type;
  auto x = random_tensor(m * in, l.type), w = random_tensor(in * out, w_type), bias = random_tensor(out, CB_F32);
  auto residual = random_tensor(m * out, CB_F32), pre = random_tensor(m * out, l.type),
       dw = random_tensor(in * out, CB_F32);
  const int32_t y_type = l.residual ? CB_F32 : l.type;
  auto y = random_tensor(m * out, y_type), dx = random_tensor(m * in, l.type);
  CbPack forward{}, backward{};
  linear_args f{};
  f.m = m, f.in = in, f.out = out, f.x = x.data(), f.w = w.data(), f.x_type = l.type, f.w_type = w_type, f.act = l.act;
  // What trains keeps its packed copies for a step; a frozen weight is packed on the way, as in training and batches.
  f.transposed = l.adapter, f.w_version = 1;
  if (l.adapter) f.pack_forward = &forward, f.pack_backward = &backward;
  f.bias = l.adapter ? nullptr : reinterpret_cast<float*>(bias.data());
  if (l.residual) f.residual = residual.data(), f.residual_type = CB_F32;
  const bool square = l.adapter && in == out;
  if (square) f.skip = x.data(), f.skip_type = l.type;
  f.y = y.data(), f.y_type = y_type, f.pre = l.act ? pre.data() : nullptr;
  linear_grads g{};
  g.f = &f, g.dy = y.data(), g.dy_type = y_type, g.dx = dx.data(), g.dx_type = l.type, g.skip_is_x = square;
  if (l.adapter) g.dw = reinterpret_cast<float*>(dw.data()), g.dw_accumulate = 1;
  const double work = 2.0 * double(m * in * out);
  const auto train = [&] { f.w_version += l.adapter ? 1 : 0; };  // the packed copies of a trained weight are rebuilt
  report(name + " forward", work, "GF/s", [&](CbContext* c) { return train(), backend().linear_forward(c, &f); });
  report(name + " backward", l.adapter ? 2 * work : work, "GF/s",
         [&](CbContext* c) { return train(), backend().linear_backward(c, &g); });
  for (CbPack* pack : {&forward, &backward}) {
    if (pack->release != nullptr) pack->release(pack->data);
  }
}

// Attention of the pooled token alone, as in the last block: keys and values are read once.
void pooled(int64_t batch, int64_t n, int64_t heads, int32_t type) {
  const int64_t m = batch * n, d = heads * 64, element = type == CB_F32 ? 4 : 2;
  const std::string name = std::string("pooled_attention ") + type_name(type) + " n=" + std::to_string(n);
  if (!wanted(name)) return;
  std::vector<int32_t> offsets, row;
  for (int64_t b = 0; b <= batch; ++b) offsets.push_back(int32_t(b * n));
  row.assign(offsets.begin(), offsets.end() - 1);
  auto q = random_tensor(batch * d, type), kv = random_tensor(m * 2 * d, type), y = q, dq = q, dkv = kv;
  pooled_attention_args f{batch, m, d, heads, q.data(), kv.data(), type, 0, offsets.data(), row.data(), y.data(), {}};
  pooled_attention_grads g{&f, y.data(), dq.data(), dkv.data(), 0, 0, {}};
  const double bytes = double(m * 2 * d * element);
  report(name + " forward", bytes, "GB/s", [&](CbContext* c) { return backend().pooled_attention_forward(c, &f); });
  report(name + " backward", 2 * bytes, "GB/s",
         [&](CbContext* c) { return backend().pooled_attention_backward(c, &g); });
}

// What makes the first rows of both towers, and what stands between their last rows and the loss.
void ends(int64_t batch) {
  const auto f32 = [](std::vector<char>& t) { return reinterpret_cast<float*>(t.data()); };
  const int64_t n = 196, d = 768, texts = 77 * batch, width = 512, p = 512;
  auto pixels = random_tensor(batch * 3 * 224 * 224, CB_F32), patches = random_tensor(batch * n * d, CB_BF16);
  patchify_args cut{batch, 3, 224, 224, 16, f32(pixels), patches.data(), CB_BF16};
  report("patchify f32 -> bf16", double(batch * n * d) * 6, "GB/s",
         [&](CbContext* c) { return backend().patchify_forward(c, &cut); });
  auto cls = random_tensor(d, CB_F32), position = random_tensor((n + 1) * d, CB_F32),
       x = random_tensor(batch * (n + 1) * d, CB_F32);
  class_tokens_args tokens{batch, n, d, patches.data(), CB_BF16, f32(cls), f32(position), f32(x)};
  report("class_tokens bf16 -> f32", double(batch * n * d) * 6, "GB/s",
         [&](CbContext* c) { return backend().class_tokens_forward(c, &tokens); });
  std::vector<int32_t> ids(static_cast<size_t>(texts)), places(ids.size()), last(static_cast<size_t>(batch));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = int32_t(i * 7919 % 49408), places[i] = int32_t(i % 77);
  for (size_t b = 0; b < last.size(); ++b) last[b] = int32_t(77 * b + 76);
  auto table = random_tensor(49408 * width, CB_BF16), place = random_tensor(77 * width, CB_F32),
       text = random_tensor(texts * width, CB_F32);
  token_embed_args embed{texts,        width,  49408,      77,       ids.data(), places.data(),
                         table.data(), CB_F16, f32(place), f32(text)};
  report("token_embed f16 -> f32", double(texts * width) * 10, "GB/s",
         [&](CbContext* c) { return backend().token_embed_forward(c, &embed); });
  auto pooled_rows = random_tensor(batch * width, CB_F32), dtext = text;
  gather_rows_args gather{batch, texts, width, text.data(), CB_F32, last.data(), pooled_rows.data()};
  gather_rows_grads scatter{&gather, pooled_rows.data(), dtext.data(), CB_F32, 0};
  report("gather_rows forward", double(batch * width) * 8, "GB/s",
         [&](CbContext* c) { return backend().gather_rows_forward(c, &gather); });
  report("gather_rows backward", double((texts + batch) * width) * 4, "GB/s",
         [&](CbContext* c) { return backend().gather_rows_backward(c, &scatter); });
  auto features = random_tensor(batch * p, CB_F32), unit = features, dx = features,
       inverse = random_tensor(batch, CB_F32);
  l2_normalize_args normalize{batch, p, f32(features), f32(unit), f32(inverse)};
  l2_normalize_grads back{&normalize, f32(features), f32(dx), 0};
  report("l2_normalize forward", double(batch * p) * 8, "GB/s",
         [&](CbContext* c) { return backend().l2_normalize_forward(c, &normalize); });
  report("l2_normalize backward", double(batch * p) * 12, "GB/s",
         [&](CbContext* c) { return backend().l2_normalize_backward(c, &back); });
  cast_args round{batch * n * d, x.data(), CB_F32, CB_BF16, 0, patches.data()};
  report("cast f32 -> bf16", double(round.count) * 6, "GB/s", [&](CbContext* c) { return backend().cast(c, &round); });
}

void contrastive(int64_t n, int64_t p) {
  if (!wanted("contrastive")) return;
  auto image = random_tensor(n * p, CB_F32), text = random_tensor(n * p, CB_F32), di = image, dt = text;
  std::vector<float> rows(static_cast<size_t>(n)), columns(static_cast<size_t>(n));
  std::vector<int32_t> labels(static_cast<size_t>(n));
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = int32_t(i / 3);
  const float scale = 1, dy = 1;
  float loss, dscale;
  const auto f32 = [](std::vector<char>& t) { return reinterpret_cast<float*>(t.data()); };
  contrastive_args f{n,     p,     f32(image),    f32(text),   labels.data(),  &scale, 0,
                     0.05f, 0.02f, rows.data(), columns.data(), &loss};
  contrastive_grads g{&f, &dy, f32(di), f32(dt), &dscale, 0, 0, 0};
  report("contrastive n=" + std::to_string(n) + " forward+backward", 8.0 * double(n * n * p), "GF/s",
         [&](CbContext* c) {
           const int status = backend().contrastive_forward(c, &f);
           return status != CB_OK ? status : backend().contrastive_backward(c, &g);
         });
}

void adamw(int64_t count) {
  if (!wanted("squared_norm") && !wanted("adamw")) return;
  std::vector<std::vector<char>> t(5, random_tensor(count, CB_F32));
  std::memset(t[3].data(), 0, t[3].size());
  const auto f32 = [&](int i) { return reinterpret_cast<float*>(t[size_t(i)].data()); };
  CbParameter p{count, f32(0), f32(1), f32(2), f32(3), f32(4), 0.1f, 1, nullptr, 0};
  const float schedule[4] = {1e-3f, 0.5f, 0.5f, 0.99f};
  float norm2;
  squared_norm_args s{1, &p, &norm2};
  adamw_args a{1, &p, schedule, &norm2, 0.9f, 0.999f, 1e-8f, 1};
  report("squared_norm 14M", double(count) * 4, "GB/s", [&](CbContext* c) { return backend().squared_norm(c, &s); });
  report("adamw with average 14M", double(count) * 40, "GB/s", [&](CbContext* c) { return backend().adamw(c, &a); });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) filter = argv[1];
  std::printf("level %s, %d threads\n", backend().level, cambium::thread_count());
  for (const int32_t type : {CB_BF16, CB_F32}) {
    attention(8, 50, 12, 64, false, type);
    attention(8, 77, 8, 64, true, type);
    attention(32, 16, 8, 64, true, type);
    attention(8, 197, 12, 64, false, type);
    attention(8, 257, 16, 64, false, type);
    attention(1, 1370, 12, 64, false, type);
    branch(8, 197, 12, 8, false, type);
    branch(8, 197, 12, 16, false, type);
    branch(8, 77, 8, 8, true, type);
    branch(8, 77, 8, 16, true, type);
  }
  layer_norm(1576, 768, CB_BF16);
  layer_norm(1576, 768, CB_F32);
  for (const int32_t type : {CB_BF16, CB_F32}) {
    for (const Linear& l : {Linear{"qkv", 1576, 768, 2304, type, CB_ACT_NONE, false, false},
                            Linear{"out + residual", 1576, 768, 768, type, CB_ACT_NONE, true, false},
                            Linear{"fc1 + quick_gelu", 1576, 768, 3072, type, CB_ACT_QUICK_GELU, false, false},
                            Linear{"fc1 + gelu", 1576, 768, 3072, type, CB_ACT_GELU, false, false},
                            Linear{"fc2 + residual", 1576, 3072, 768, type, CB_ACT_NONE, true, false},
                            Linear{"adapter 768", 1576, 768, 768, type, CB_ACT_NONE, true, true},
                            Linear{"text fc1", 128, 512, 2048, type, CB_ACT_QUICK_GELU, false, false},
                            Linear{"text adapter 512", 128, 512, 512, type, CB_ACT_NONE, true, true},
                            Linear{"adapter rank 8 down", 1576, 768, 8, type, CB_ACT_NONE, false, true}}) {
      linear(l);
    }
  }
  for (const int32_t type : {CB_BF16, CB_F32}) pooled(8, 197, 12, type);
  ends(8);
  contrastive(8, 512);
  contrastive(1024, 512);
  adamw(14'200'000);
}
