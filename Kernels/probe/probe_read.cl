// Reads and does nothing else: the roof of sums. What is read is added up, so that no compiler leaves it out.
//
//   sums[item] = the sum of what the item reads
//
//   sums  [items]
//   from  [items * block * 16], or [items * block * 4] elsewhere than on CPU devices
//
// Launch: global [items], local [1] for CPU devices, where an item's `block` vectors of 16 lie side by side. Elsewhere an
// item has `block` quarters of 16, and neighbouring items have neighbouring ones: global [items], any local size.
// Parameters: PROBE_CPU 1 for CPU devices; PROBE_SENDS 1 where these are asked for values ahead of the loads. Some read
// faster so, some slower.

#include "real.clh"

#ifndef PROBE_CPU
#define PROBE_CPU 0
#endif

#ifndef PROBE_SENDS
#define PROBE_SENDS 0
#endif

// Values ahead of the loads: 8 KiB.
#define AHEAD 2048

static inline REAL sum_of_four(REAL4 four) { return (four.x + four.y) + (four.z + four.w); }

#if PROBE_CPU
KEEL_CPU __kernel void probe_read(__global REAL* restrict sums, __global const REAL* restrict from, int block) {
  const size_t item = get_global_id(0);
  __global const REAL* values = from + item * block * 16;
  REAL16 sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
  size_t i = 0;
  for (; i + 4 <= block; i += 4) {
#if PROBE_SENDS
    for (int line = 0; line < 64; line += 16) KEEL_PREFETCH(values + i * 16 + line + AHEAD);
#endif
    sum0 += LOAD16(values, i * 16);
    sum1 += LOAD16(values, (i + 1) * 16);
    sum2 += LOAD16(values, (i + 2) * 16);
    sum3 += LOAD16(values, (i + 3) * 16);
  }
  for (; i < block; i++) sum0 += LOAD16(values, i * 16);
  const REAL16 sum = (sum0 + sum1) + (sum2 + sum3);
  const REAL8 eight = sum.lo + sum.hi;
  sums[item] = sum_of_four(eight.lo + eight.hi);
}
#else
__kernel void probe_read(__global REAL* restrict sums, __global const REAL* restrict from, int block) {
  const size_t item = get_global_id(0), items = get_global_size(0);
  REAL4 sum = 0;
  for (size_t i = 0; i < block; i++) sum += ((__global const REAL4*)from)[i * items + item];
  sums[item] = sum_of_four(sum);
}
#endif
