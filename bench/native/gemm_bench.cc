// Speed of products at every level, as a share of the machine's own peak: chains of multiply-adds in registers,
// measured in the same run. Levels take turns; a figure is the median over the rounds. With one thread the clock is the
// thread's CPU time, so that other work on the machine disturbs less; with more it is the wall.
//   gemm_bench [rounds = 7] [threads = 1] [only the shape of this number]
// Shapes are those of CLIP towers (M tokens × K × N): forward (weights packed once), dX (weights in the other
// direction, packed once) and dW (both operands turned, packed on the way).
#include <immintrin.h>

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "cpu/gemm/gemm.h"
#include "cpu/parallel.h"

using namespace cambium;

namespace {

bool by_cpu_time = true;
double seconds() {
  timespec t;
  if (by_cpu_time && clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0)
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

// flop/s of one thread in registers; 20 chains hide the latency. Functions carry their own target.
template <class Body>
double peak(double flop, const Body& body) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = seconds();
    body();
    best = std::max(best, flop / (seconds() - start));
  }
  return best;
}

constexpr int kChains = 20, kSteps = 4000000;
float sink[16];
void keep() { __asm__ volatile("" : : "r"(sink) : "memory"); }  // or the compiler sees that nobody reads it

__attribute__((target("avx2,fma"))) void chains_avx2() {
  __m256 c[12];
  for (int i = 0; i < 12; ++i) c[i] = _mm256_set1_ps(float(i));  // all different, or the compiler makes them one
  __m256 a = _mm256_set1_ps(1e-9f), b = _mm256_set1_ps(0.5f);
  for (int i = 0; i < kSteps; ++i) {
    __asm__ volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (auto& x : c) x = _mm256_fmadd_ps(a, b, x);
  }
  for (int i = 1; i < 12; ++i) c[0] = _mm256_add_ps(c[0], c[i]);
  _mm256_storeu_ps(sink, c[0]);
  keep();
}
__attribute__((target("avx512f"))) void chains_avx512() {
  __m512 c[kChains];
  for (int i = 0; i < kChains; ++i) c[i] = _mm512_set1_ps(float(i));
  __m512 a = _mm512_set1_ps(1e-9f), b = _mm512_set1_ps(0.5f);
  for (int i = 0; i < kSteps; ++i) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 20
    for (auto& x : c) x = _mm512_fmadd_ps(a, b, x);
  }
  for (int i = 1; i < kChains; ++i) c[0] = _mm512_add_ps(c[0], c[i]);
  _mm512_storeu_ps(sink, c[0]);
  keep();
}
__attribute__((target("avx512f,avx512bf16"))) void chains_bf16() {
  __m512 c[kChains];
  for (int i = 0; i < kChains; ++i) c[i] = _mm512_set1_ps(float(i));
  __m512i a = _mm512_set1_epi32(0x30003000), b = _mm512_set1_epi32(0x3f003f00);
  for (int i = 0; i < kSteps; ++i) {
    __asm__ volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 20
    for (auto& x : c) x = _mm512_dpbf16_ps(x, (__m512bh)a, (__m512bh)b);
  }
  for (int i = 1; i < kChains; ++i) c[0] = _mm512_add_ps(c[0], c[i]);
  _mm512_storeu_ps(sink, c[0]);
  keep();
}

struct Contender {
  Level level;
  Element product;
  const GemmTable* table;
  double peak;  // 0: not known
};

std::vector<Contender> contenders() {
  std::vector<Contender> all;
  if (level_available(Level::avx2))
    all.push_back({Level::avx2, Element::f32, &avx2::gemm_table(), peak(16.0 * 12 * kSteps, chains_avx2)});
  if (level_available(Level::avx512))
    all.push_back({Level::avx512, Element::f32, &avx512::gemm_table(), peak(32.0 * kChains * kSteps, chains_avx512)});
  if (level_available(Level::avx512_bf16))
    all.push_back({Level::avx512_bf16, Element::bf16, &avx512::gemm_table(),
                   peak(64.0 * kChains * kSteps, chains_bf16)});
  if (level_available(Level::amx)) all.push_back({Level::amx, Element::bf16, &avx512::gemm_table(), 0});
  all.insert(all.begin(), {Level::portable, Element::f32, &portable::gemm_table(), 0});
  return all;
}

enum Form { kForward, kGelu, kDx, kDw };
struct Shape {
  Form form;
  int64_t m, k, n;
};

// One product of a form, ready to run again and again.
struct Job {
  Shape s;
  const Contender* who;
  std::vector<float> a, b, c, bias;
  std::vector<uint16_t> a16, pre;
  std::vector<uint8_t> packed;
  GemmCall call;

  Job(const Shape& shape, const Contender* w) : s(shape), who(w) {
    std::mt19937 random_bits(1);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& v, int64_t n) {
      for (int64_t i = 0; i < n; ++i) v.push_back(normal(random_bits));
    };
    fill(a, s.m * s.k), fill(b, s.k * s.n), fill(bias, s.n);
    c.resize(size_t(s.m * s.n)), pre.resize(size_t(s.m * s.n));
    const bool turned = s.form == kDw;
    const MatrixView va{a.data(), Element::f32, turned ? 1 : s.k, turned ? s.m : 1};
    const bool b_rows = s.form == kDx || s.form == kDw;
    const MatrixView vb{b.data(), Element::f32, b_rows ? s.n : 1, b_rows ? 1 : s.k};
    call = {va, vb, nullptr, s.m, s.n, s.k, c.data(), Element::f32, who->product, Epilogue()};
    if (s.form == kGelu) {
      call.epilogue.bias = bias.data(), call.epilogue.activation = 1;
      call.epilogue.pre = pre.data(), call.epilogue.pre_type = Element::bf16;
      call.c_type = Element::bf16;
    }
    set_cpu_level(who->level);
    if (s.form != kDw) {
      packed.resize(who->table->packed_b_bytes(s.k, s.n, who->product));
      who->table->pack_matrix_b(vb, s.k, s.n, who->product, packed.data());
      call.packed_b = packed.data();
    }
  }
  double run() {
    set_cpu_level(who->level);
    const double start = seconds();
    if (who->table->gemm(call) != 0) std::exit(1);
    return 2.0 * double(s.m) * double(s.n) * double(s.k) / (seconds() - start);
  }
};

}  // namespace

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 7, threads = count > 2 ? std::atoi(arguments[2]) : 1;
  const int only = count > 3 ? std::atoi(arguments[3]) : -1;
  set_thread_count(threads);
  const std::vector<Contender> all = contenders();
  by_cpu_time = threads == 1;
  std::printf("%d thread(s), GF/s (%% of the register-only peak times threads)\n%-28s", threads, "form M x K x N");
  for (const auto& w : all) std::printf("%22s", level_name(w.level));
  std::printf("\n%-28s", "peak of one thread");
  for (const auto& w : all) std::printf("%22.0f", w.peak / 1e9);
  std::printf("\n");
  const char* const names[] = {"fwd", "gelu", "dX", "dW"};
  const Shape shapes[] = {{kForward, 1576, 768, 768}, {kForward, 1576, 768, 2304}, {kForward, 1576, 768, 3072},
                          {kGelu, 1576, 768, 3072}, {kForward, 1576, 3072, 768}, {kForward, 2056, 1024, 4096},
                          {kForward, 2056, 4096, 1024}, {kForward, 400, 768, 3072}, {kDx, 1576, 3072, 768},
                          {kDx, 1576, 768, 768}, {kDw, 768, 1576, 768}, {kDw, 3072, 1576, 768}, {kDw, 768, 1576, 3072},
                          {kForward, 1576, 768, 8}, {kForward, 1576, 8, 768}, {kDw, 8, 1576, 768},
                          {kForward, 8, 768, 768}, {kForward, 128, 512, 512}};
  int index = 0;
  for (const Shape& s : shapes) {
    if (only >= 0 && index++ != only) continue;
    std::vector<Job> jobs;
    jobs.reserve(all.size());
    for (const auto& w : all) jobs.emplace_back(s, &w);
    std::vector<std::vector<double>> speed(all.size());
    for (int round = -1; round < rounds; ++round)
      for (size_t i = 0; i < jobs.size(); ++i) {
        const double v = jobs[i].run();
        if (round >= 0) speed[i].push_back(v);
      }
    char name[64];
    std::snprintf(name, sizeof name, "%s %dx%dx%d", names[s.form], int(s.m), int(s.k), int(s.n));
    std::printf("%-28s", name);
    for (size_t i = 0; i < all.size(); ++i) {
      const double v = median(speed[i]);
      if (all[i].peak > 0) std::printf("%14.0f (%3.0f %%)", v / 1e9, 100 * v / all[i].peak / threads);
      else std::printf("%22.0f", v / 1e9);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  return 0;
}
