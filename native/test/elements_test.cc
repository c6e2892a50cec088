// Element-wise ops, reductions, movement and the optimizer, against double.
#include <cstring>

#include "op_test.h"
#include "ops_test.h"

namespace cambium_test {
namespace {

void arithmetic(int64_t n, int32_t type) {
  Tensor a = Tensor::random(n, type), b = Tensor::random(n), y(n, type), dy = Tensor::random(n, type);
  Tensor da = Tensor::random(n), db(n, type), s(1), ds(1), dx = Tensor::random(n, type);
  Reference sum = zeros(n), product(sum), want_a = values(da), want_b(sum), by_b = values(da), by_a(sum), scaled(sum),
            want_dx = values(dx);
  double want_ds = 2, total = 0;
  s.set(0, -1.5);
  for (int64_t i = 0; i < n; ++i) {
    const auto at = size_t(i);
    sum[at] = a.at(i) + b.at(i), product[at] = a.at(i) * b.at(i), scaled[at] = -1.5 * a.at(i);
    want_a[at] += dy.at(i), want_b[at] = dy.at(i);
    by_b[at] += dy.at(i) * b.at(i), by_a[at] = dy.at(i) * a.at(i);
    want_ds += dy.at(i) * a.at(i), want_dx[at] += -1.5 * dy.at(i), total += a.at(i);
  }
  const double tolerance = tolerance_of(type);
  add_args f{n, a.data(), b.data(), type, CB_F32, y.data(), type};
  check("add", {{"y", &y, sum, tolerance}}, [&](CbContext* c) { return backend().add_forward(c, &f); });
  check("multiply", {{"y", &y, product, tolerance}}, [&](CbContext* c) { return backend().multiply_forward(c, &f); });
  const Tensor da_start = da;
  add_grads g{&f, dy.data(), type, da.data(), db.data(), CB_F32, type, 1, 0};
  check("add backward", {{"da", &da, want_a, 3e-6}, {"db", &db, want_b, tolerance}},
        [&](CbContext* c) { return backend().add_backward(c, &g); });
  std::memcpy(da.data(), da_start.bytes().data(), da_start.bytes().size());
  multiply_grads h{&f, dy.data(), type, da.data(), db.data(), CB_F32, type, 1, 0};
  check("multiply backward", {{"da", &da, by_b, 3e-6}, {"db", &db, by_a, tolerance}},
        [&](CbContext* c) { return backend().multiply_backward(c, &h); });
  scale_args scale{n, a.data(), type, s.f32(), y.data()};
  check("scale", {{"y", &y, scaled, tolerance}}, [&](CbContext* c) { return backend().scale_forward(c, &scale); });
  ds.set(0, 2);
  scale_grads scale_g{&scale, dy.data(), dx.data(), 1, ds.f32(), 1};
  check("scale backward", {{"dx", &dx, want_dx, tolerance}, {"ds", &ds, {want_ds}, 1e-6}},
        [&](CbContext* c) { return backend().scale_backward(c, &scale_g); });
  Tensor result(1), one(1), spread(n, type);
  one.set(0, 2);
  sum_args sums{n, a.data(), type, 0.5f, result.f32()};
  check("sum", {{"y", &result, {0.5 * total}, 1e-5}}, [&](CbContext* c) { return backend().sum_forward(c, &sums); });
  sum_grads sums_g{&sums, one.f32(), spread.data(), 0};
  check("sum backward", {{"dx", &spread, Reference(size_t(n), 1.0), 0}},
        [&](CbContext* c) { return backend().sum_backward(c, &sums_g); });
}

void movement(int64_t n) {
  Tensor x = Tensor::random(n), half(n, CB_BF16), y = Tensor::random(n), b = Tensor::random(n, CB_BF16);
  Reference added = values(y), mixed = zeros(n);
  for (int64_t i = 0; i < n; ++i) added[size_t(i)] += x.at(i), mixed[size_t(i)] = 0.25 * x.at(i) + 0.75 * b.at(i);
  cast_args narrow{n, x.data(), CB_F32, CB_BF16, 0, half.data()};
  Reference rounded = zeros(n);
  for (int64_t i = 0; i < n; ++i) rounded[size_t(i)] = round_to(CB_BF16, x.at(i));
  check("cast to bf16", {{"y", &half, rounded, 0}}, [&](CbContext* c) { return backend().cast(c, &narrow); });
  cast_args accumulate{n, x.data(), CB_F32, CB_F32, 1, y.data()};
  check("cast accumulating", {{"y", &y, added, 1e-6}}, [&](CbContext* c) { return backend().cast(c, &accumulate); });
  interpolate_args mix{n, x.data(), b.data(), CB_F32, CB_BF16, CB_F32, 0.75f, y.data()};
  check("interpolate", {{"y", &y, mixed, 1e-6}}, [&](CbContext* c) { return backend().interpolate(c, &mix); });
  copy_args copy{n * 4, x.data(), y.data()};
  check("copy", {{"y", &y, values(x), 0}}, [&](CbContext* c) { return backend().copy(c, &copy); });
  fill_args fill{n * 4, 0, y.data()};
  check("fill", {{"y", &y, Reference(size_t(n), 0.0), 0}}, [&](CbContext* c) { return backend().fill(c, &fill); });
}

// Every half-precision number survives the way to f32 and back; values between two neighbours go to the even one.
void half_precision() {
  std::vector<uint16_t> all(65536), back(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = uint16_t(i);
  Tensor wide(65536);
  cast_args widen{65536, all.data(), CB_F16, CB_F32, 0, wide.data()},
      narrow{65536, wide.data(), CB_F32, CB_F16, 0, back.data()};
  Reference want(65536);
  for (int i = 0; i < 65536; ++i) {
    const int exponent = i >> 10 & 31, mantissa = i & 1023;
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    want[size_t(i)] = i >> 15 ? -magnitude : magnitude;
    if (exponent == 31) all[size_t(i)] = uint16_t(i & 0x8000), want[size_t(i)] = 0;  // infinities and NaN: below
  }
  check("cast from f16", {{"y", &wide, want, 0}}, [&](CbContext* c) { return backend().cast(c, &widen); });
  Tensor wrong(1);
  const auto compare = [&](const char* name, const std::vector<float>& in, const std::vector<uint16_t>& expected) {
    std::vector<uint16_t> out(in.size());
    cast_args c{int64_t(in.size()), in.data(), CB_F32, CB_F16, 0, out.data()};
    check(name, {{"different", &wrong, {0.0}, 0}}, [&](CbContext* context) {
      const int status = backend().cast(context, &c);
      wrong.set(0, out == expected ? 0 : 1);
      return status;
    });
  };
  const float tiny = std::ldexp(1.f, -24);
  compare("cast to f16",
          {1 + std::ldexp(1.f, -11), 1 + std::ldexp(3.f, -11), 65519.f, 65520.f, -HUGE_VALF, NAN, tiny / 2, tiny * 1.5f,
           -0.f},
          {0x3c00, 0x3c02, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0, 2, 0x8000});
  check("cast f16 round trip", {{"different", &wrong, {0.0}, 0}}, [&](CbContext* context) {
    const int status = backend().cast(context, &narrow);
    wrong.set(0, back == all ? 0 : 1);
    return status;
  });
}

}  // namespace

void elements_tests() {
  for (const int32_t type : {CB_F32, CB_BF16}) {
    for (const int64_t n : {1, 67, 40003}) arithmetic(n, type);
  }
  movement(70001);
  half_precision();
}

}  // namespace cambium_test
