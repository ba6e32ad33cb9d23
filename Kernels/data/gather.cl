// A batch out of a data set that lives on the device, converted on the way.
//
//   row         = permutation[cursor[component] + b]
//   out[b, f]   = data[row, f] * scale        for b in 0 ..< B, f in 0 ..< F
//
//   out            [B, F] DESTINATION
//   data           [count, F] SOURCE, as stored
//   permutation    [positions] row numbers
//   cursor         counters of the training loop; cursor[component] is the first position of the batch
//
// Parameters: SOURCE uchar, float, int, double, half or bfloat16; DESTINATION REAL or int. An int is converted only:
// scale is for REAL. Positions and rows beyond their ends are clamped to the last, never read.
//
//   gather_rows   CPU: a work-item per row of the batch; global [B], local [1]
//   gather_each   any device: a work-item per element; global [B * F], or rounded up. Drivers have few groups on the
//                 other axes

#include "storage.clh"

#ifndef SOURCE
#define SOURCE uchar
#endif
#ifndef DESTINATION
#define DESTINATION REAL
#endif

#if KEEL_TYPE(DESTINATION) == KEEL_TYPE_int
#define CONVERTED1(p, i) convert_int(LOAD1(p, i))
#define CONVERTED16(p, i) convert_int16(LOAD16(p, i))
#else
#define CONVERTED1(p, i) (KEEL_PASTE(LOAD1_, SOURCE)(p, i) * scale)
#define CONVERTED16(p, i) (KEEL_PASTE(LOAD16_, SOURCE)(p, i) * scale)
#endif

// Elements for which one cache line is sent for: those of 64 bytes, or of two lines where they are long.
#define STRETCH (sizeof(SOURCE) > 4 ? 16 : 64 / sizeof(SOURCE))

static inline size_t batch_row(
    __global const int* permutation, __global const int* cursor, size_t b, int component, int count, int positions) {
  const size_t position = min((size_t)max(cursor[component], 0) + b, (size_t)positions - 1);
  return clamp(permutation[position], 0, count - 1);
}

KEEL_CPU __kernel void gather_rows(
    __global DESTINATION* restrict out, __global const SOURCE* restrict data, __global const int* restrict permutation,
    __global const int* restrict cursor, REAL scale, int B, int F, int component, int count,
    int positions) {
  const size_t b = get_global_id(0);
  __global const SOURCE* from = data + batch_row(permutation, cursor, b, component, count, positions) * F;
  __global DESTINATION* to = out + b * F;
  // A row lies anywhere in memory: that of the next batch is sent for while this one is converted.
  __global const SOURCE* next = data + batch_row(permutation, cursor, b + B, component, count, positions) * F;
  size_t f = 0;
  while (f + 16 <= F) {
    KEEL_PREFETCH(next + f);
    for (const size_t end = min(f + STRETCH, (size_t)F); f + 16 <= end; f += 16) STORE16(to, f, CONVERTED16(from, f));
  }
  KEEL_PREFETCH(next + F - 1);
  for (; f < F; f++) to[f] = CONVERTED1(from, f);
}

__kernel void gather_each(
    __global DESTINATION* restrict out, __global const SOURCE* restrict data, __global const int* restrict permutation,
    __global const int* restrict cursor, REAL scale, int B, int F, int component, int count,
    int positions) {
  const size_t i = get_global_id(0), b = i / F, f = i % F;
  if (b >= B) return;
  const size_t row = batch_row(permutation, cursor, b, component, count, positions);
  out[i] = CONVERTED1(data, row * F + f);
}
