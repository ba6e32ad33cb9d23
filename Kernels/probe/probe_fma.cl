// As many fused multiply-adds as the device can do: the roof of everything that computes.
//
//   sums[item] = the sum over `lanes` values x of f applied `iterations` times, f(x) = x · factor + step
//
//   sums  [items]
//
// Twelve chains run side by side, more than the latency of the device's units has room for, and stay in registers. A
// work-item for a CPU has 192 lanes: twelve vectors of 16, or twice twelve of 8, one set after the other. Elsewhere
// it has 12.
//
// Launch: global [items], any local size; for CPU devices local [1]. Operations: items · iterations · lanes · 2.
// Parameter: PROBE_CPU 1 for CPU devices.

#include "real.clh"

#ifndef PROBE_CPU
#define PROBE_CPU 0
#endif

#define CHAINS 12
#if !PROBE_CPU
#define VECTOR REAL
#define SETS 1
#elif defined(__AVX512F__)
#define VECTOR REAL16
#define SETS 1
#else
#define VECTOR REAL8
#define SETS 2
#endif

__kernel void probe_fma(__global REAL* restrict sums, int iterations, REAL factor, REAL step) {
  VECTOR total = 0;
  for (int set = 0; set < SETS; set++) {
    VECTOR x[CHAINS];
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) x[chain] = chain + set;
    for (int i = 0; i < iterations; i++) {
#pragma unroll
      for (int chain = 0; chain < CHAINS; chain++) x[chain] = fma(x[chain], (VECTOR)(factor), (VECTOR)(step));
    }
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) total += x[chain];
  }
#if !PROBE_CPU
  sums[get_global_id(0)] = total;
#elif defined(__AVX512F__)
  const REAL8 half_sum = total.lo + total.hi;
  const REAL4 quarter_sum = half_sum.lo + half_sum.hi;
#else
  const REAL4 quarter_sum = total.lo + total.hi;
#endif
#if PROBE_CPU
  sums[get_global_id(0)] = quarter_sum.x + quarter_sum.y + quarter_sum.z + quarter_sum.w;
#endif
}
