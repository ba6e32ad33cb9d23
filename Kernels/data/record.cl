// The end of a step: writes its scalars into a table that the host reads when it reports, and moves the cursor on.
//
//   history[cursor[1], k] = values k        for k in 0 ..< COUNT
//   cursor += (samples, 1, 1)
//
//   history     [rows, COUNT]; a row outside the table is not written
//   cursor      counters of the training loop: sample, step of the epoch, step of the optimizer
//   v0 ...      one value each; v0 is the loss
//
// Parameters: COUNT, 1 to 4; NON_FINITE, what the cursor does where the loss is not finite: 0 moves on all the same,
// 1 leaves out the optimizer's step, 2 stays. Launch: global [1].

#include "real.clh"

#ifndef COUNT
#define COUNT 1
#endif
#ifndef NON_FINITE
#define NON_FINITE 0
#endif

__kernel void record(
    __global REAL* restrict history, __global int* restrict cursor, __global const REAL* restrict v0,
#if COUNT > 1
    __global const REAL* restrict v1,
#endif
#if COUNT > 2
    __global const REAL* restrict v2,
#endif
#if COUNT > 3
    __global const REAL* restrict v3,
#endif
    int samples, int rows) {
  if (get_global_id(0) > 0) return;
  const int row = cursor[1];
  if (row >= 0 && row < rows) {
    __global REAL* entry = history + (size_t)row * COUNT;
    entry[0] = v0[0];
#if COUNT > 1
    entry[1] = v1[0];
#endif
#if COUNT > 2
    entry[2] = v2[0];
#endif
#if COUNT > 3
    entry[3] = v3[0];
#endif
  }
  const bool is_finite = isfinite(v0[0]);
  if (is_finite || NON_FINITE < 2) {
    cursor[0] += samples;
    cursor[1] += 1;
  }
  if (is_finite || NON_FINITE == 0) cursor[2] += 1;
}
