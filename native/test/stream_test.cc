// Streams, memory and the thread pool under many threads at once, as workers of a Node process use them: built for
// ThreadSanitizer (`npm run test:sanitize`), and right without it too. Every environment is a thread with a session of its
// own; the pool is everybody's.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "cpu/backend.h"
#include "cpu/parallel.h"
#include "ops/ops.h"
#include "queue_device.h"

namespace cambium {
namespace {

std::atomic<int> failed{0};

void expect(bool right, const char* what) {
  if (right) return;
  ++failed;
  std::printf("FAIL %s\n", what);
}

template <class F>
void on_threads(int count, const F& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&body, i] { body(i); });
  for (std::thread& thread : threads) thread.join();
}

std::vector<float> read(Session& s, const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t->count()));
  s.stream().enqueue("read", [&out, from = t->data(), copy = s.backend().copy](CbContext* context) {
    const copy_args args{static_cast<int64_t>(out.size() * 4), from, out.data()};
    return copy(context, &args);
  });
  s.stream().drain();
  return out;
}

Tensor filled(Session& s, const Shape& shape, float start) {
  std::vector<float> values(static_cast<size_t>(shape.count()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = start + 0.001f * static_cast<float>(i % 97);
  Tensor t = s.empty(shape, DType::f32, "test");
  s.write(t, values.data(), values.size() * 4);
  return t;
}

// A few steps of forward, backward and AdamW: every part of a session is used, the pool by the kernels.
std::vector<float> train(Session& s, int steps) {
  constexpr int64_t kRows = 40, kWidth = 48;
  const Tensor w = filled(s, {kWidth, kWidth}, 0.01f);
  w->requires_grad = w->leaf = true;
  const Tensor m = s.full({kWidth, kWidth}, 0), v = s.full({kWidth, kWidth}, 0), scale = s.full({kWidth}, 1);
  const float numbers[4] = {0.01f, 0.1f, 0.001f, 0};
  Tensor schedule = s.empty({4}, DType::f32, "test");
  s.write(schedule, numbers, sizeof numbers);
  for (int i = 0; i < steps; ++i) {
    Tensor x = filled(s, {kRows, kWidth}, 0.1f * static_cast<float>(i + 1));
    for (int layer = 0; layer < 3; ++layer) {
      LinearOptions options;
      options.residual = x;
      x = linear(s, layer_norm(s, x, scale, nullptr, 1e-5, DType::f32), w, options);
    }
    s.tape().backward({sum(s, x, 1)}, {nullptr});
    adamw(s, {{w, m, v, nullptr, nullptr, 0.01, 1, 0}}, schedule, {0.9, 0.999, 1e-8, 1});
    s.tape().clear();
    if (i % 2 == 1) s.stream().drain();
  }
  return read(s, w);
}

void environments_agree() {
  std::vector<float> alone;
  {
    Session s(cpu_backend());
    alone = train(s, 6);
  }
  on_threads(8, [&](int) {
    for (int round = 0; round < 2; ++round) {
      Session s(cpu_backend());
      const std::vector<float> result = train(s, 6);
      expect(std::memcmp(result.data(), alone.data(), alone.size() * 4) == 0, "eight environments give the bits of one");
    }
  });
}

// A worker that is terminated: its session goes with tasks, frees and packed weights still queued.
void environments_end_with_full_queues() {
  on_threads(8, [](int i) {
    for (int round = 0; round < 6; ++round) {
      Session s(cpu_backend());
      const Tensor w = filled(s, {64, 64}, 0.02f);
      Tensor x = filled(s, {128, 64}, 0.1f);
      for (int k = 0; k < 20 + i; ++k) x = linear(s, x, w, {});
      if (round % 2 == 0) s.stream().stop();
    }
  });
}

void failures_are_told_once() {
  on_threads(4, [](int) {
    Stream stream(nullptr, kHostScratch, [](size_t) {});
    for (int round = 0; round < 40; ++round) {
      int skipped = 0, told = 0;
      uint64_t number = 0;
      stream.enqueue("first", [](CbContext*) { return static_cast<int>(CB_INDEX); });
      for (int k = 0; k < 5; ++k) stream.enqueue("later", [&](CbContext*) { return ++skipped, static_cast<int>(CB_OK); });
      stream.always([&](const Failure& failure) { told += failure.code == "E_INDEX", number = failure.number; });
      stream.drain();
      expect(skipped == 0 && told == 1, "after a failure nothing runs but what must");
      stream.forget(number);
      stream.enqueue("again", [&](CbContext*) { return ++skipped, static_cast<int>(CB_OK); });
      stream.drain();
      expect(skipped == 1, "a failure that was told is over");
    }
  });
}

// The device's thread runs what the stream's thread has handed over, long after the calls that queued it.
void a_device_runs_late() {
  on_threads(4, [](int i) {
    Session s(new QueueDevice);
    for (int round = 0; round < 60; ++round) {
      const float start = static_cast<float>(i + round);
      Tensor sum = filled(s, {40, 25}, start);
      for (int k = 0; k < 3; ++k) sum = add(s, sum, sum, DType::f32);  // the former ones are freed, and their memory used again
      std::vector<float> out(1000);
      bool told = false;
      s.stream().enqueue("read", [&, from = sum->data()](CbContext* context) { return s.fetch(context, out.data(), from, out.size() * 4); });
      s.stream().always([&](const Failure& failure) { told = !failure; });
      s.stream().drain();
      expect(told && out[0] == 8 * start && out[5] == 8 * (start + 0.001f * 5), "what was handed over runs in order");
    }
  });
}

void a_device_that_is_lost_is_told() {
  on_threads(4, [](int i) {
    auto* const device = new QueueDevice;
    Session s(device);
    Tensor sum = filled(s, {40, 25}, 1);
    for (int k = 0; k < 20 + i; ++k) sum = add(s, sum, sum, DType::f32);
    device->lose();
    std::string code;
    s.stream().always([&](const Failure& failure) { code = failure.code; });
    s.stream().drain();  // and does not hang
    expect(code.empty() || code == "E_DEVICE", "a lost device is an error");
    for (int k = 0; k < 3; ++k) sum = add(s, sum, sum, DType::f32);
    s.stream().always([&](const Failure& failure) { code = failure.code; });
    s.stream().drain();
    expect(code == "E_DEVICE", "of every call that follows, too");
  });
}

void scratch_grows_and_settles() {
  std::atomic<size_t> largest{0};
  Stream stream(nullptr, kHostScratch, [&](size_t bytes) { largest = bytes; });
  for (size_t round = 1; round <= 30; ++round)
    stream.enqueue("scratch", [round](CbContext* context) {
      for (size_t k = 1; k <= 4; ++k) {
        void* block = context->scratch(context, 1000 * round * k);
        if (!block) return static_cast<int>(CB_OUT_OF_MEMORY);
        std::memset(block, 1, 1000 * round * k);
      }
      return static_cast<int>(CB_OK);
    });
  stream.drain();
  expect(largest >= 300000 && largest < 2000000, "scratch settles at what one entry needs");
}

void pool_runs_every_task_once() {
  on_threads(6, [](int i) {
    for (int round = 0; round < 200; ++round) {
      if (i == 0) set_thread_count(1 + round % 5);
      const int64_t tasks = 1 + (round * 7 + i) % 90;
      std::vector<int> runs(static_cast<size_t>(tasks), 0);
      parallel_for(tasks, [&](int64_t k) {
        ++runs[static_cast<size_t>(k)];
        void* block = thread_scratch(0, 64 + static_cast<size_t>(k) * 64);
        if (block) std::memset(block, i, 64);
      });
      bool once = true;
      for (int count : runs) once = once && count == 1;
      expect(once, "every task runs once");
    }
  });
}

}  // namespace
}  // namespace cambium

int main() {
  using namespace cambium;
  set_thread_count(4);
  environments_agree();
  environments_end_with_full_queues();
  failures_are_told_once();
  a_device_runs_late();
  a_device_that_is_lost_is_told();
  scratch_grows_and_settles();
  pool_runs_every_task_once();
  std::printf("streams, memory and pool: %d failures\n", failed.load());
  return failed == 0 ? 0 : 1;
}
