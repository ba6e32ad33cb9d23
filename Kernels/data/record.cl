// Writes the scalars of a step into a table that the host reads when it reports.
//
//   history[cursor[component], k] = values k        for k in 0 ..< COUNT
//
//   history     [rows, COUNT]; a row outside the table is not written
//   v0 ...      one value each
//   cursor      counters of the training loop
//
// Parameter: COUNT, 1 to 4. Launch: global [1].

#include "real.clh"

#ifndef COUNT
#define COUNT 1
#endif

__kernel void record(
    __global REAL* restrict history, __global const REAL* restrict v0,
#if COUNT > 1
    __global const REAL* restrict v1,
#endif
#if COUNT > 2
    __global const REAL* restrict v2,
#endif
#if COUNT > 3
    __global const REAL* restrict v3,
#endif
    __global const int* restrict cursor, int component, int rows) {
  const int row = cursor[component];
  if (get_global_id(0) > 0 || row < 0 || row >= rows) return;
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
