// Reduction over the middle axis: [outer, R, inner] -> [outer, inner].
//
//   out[o, i] = REDUCE_COMBINE over r of in[o, r, i], starting from REDUCE_INIT
//
// Parameters: REDUCE_INIT and REDUCE_COMBINE(a, b), an associative operation on REAL and on REAL8; the sum by
// default. The order is fixed by the shape: blocks of values are reduced first, then combined in order, so a long
// float sum stays accurate and two runs give the same bits.
// Operand and result are STORED, the workspace is REAL.
//
//   reduce_each      any shape and device; global [outputs] or rounded up, outputs = outer * inner
//   reduce_rows      CPU, inner = 1: a work-item owns `block` rows; global [ceil(outer / block)], local [1]
//   reduce_columns   CPU: a work-item owns eight columns of one o; global [ceil(inner / 8), outer], local [1, 1]
//   reduce_partial   any shape and device, few outputs and long R: slices of sliceLength values into
//                    workspace [slices, outputs], slices = ceil(R / sliceLength); global [outputs, slices]
//                    or rounded up
//   reduce_merge     the slices, 64 at most, in index order; global [outputs] or rounded up

#include "lanes.clh"

#ifndef REDUCE_COMBINE
#define REDUCE_INIT R(0.0)
#define REDUCE_COMBINE(a, b) ((a) + (b))
#endif

// Values combined in one go before they join the total.
#define BLOCK 64

// count values `stride` apart.
static inline REAL reduce_strided(__global const STORED* in, size_t count, size_t stride) {
  REAL total = REDUCE_INIT;
  for (size_t first = 0; first < count; first += BLOCK) {
    const size_t last = min(first + BLOCK, count);
    REAL part = REDUCE_INIT;
    for (size_t r = first; r < last; r++) part = REDUCE_COMBINE(part, LOAD1_STORED(in, r * stride));
    total = REDUCE_COMBINE(total, part);
  }
  return total;
}

// count neighbouring values, in four vectors side by side.
static inline REAL reduce_contiguous(__global const STORED* in, size_t count) {
  REAL8 total = REDUCE_INIT;
  size_t r = 0;
  while (r + 32 <= count) {
    const size_t last = min(r + 32 * BLOCK, count);
    REAL8 part0 = REDUCE_INIT, part1 = REDUCE_INIT, part2 = REDUCE_INIT, part3 = REDUCE_INIT;
    for (; r + 32 <= last; r += 32) {
      part0 = REDUCE_COMBINE(part0, LOAD8_STORED(in, r));
      part1 = REDUCE_COMBINE(part1, LOAD8_STORED(in, r + 8));
      part2 = REDUCE_COMBINE(part2, LOAD8_STORED(in, r + 16));
      part3 = REDUCE_COMBINE(part3, LOAD8_STORED(in, r + 24));
    }
    const REAL8 part01 = REDUCE_COMBINE(part0, part1), part23 = REDUCE_COMBINE(part2, part3);
    const REAL8 part = REDUCE_COMBINE(part01, part23);
    total = REDUCE_COMBINE(total, part);
  }
  for (; r + 8 <= count; r += 8) total = REDUCE_COMBINE(total, LOAD8_STORED(in, r));
  REAL lane[8], result = REDUCE_INIT;
  vstore8(total, 0, lane);
  for (int l = 0; l < 8; l++) result = REDUCE_COMBINE(result, lane[l]);
  for (; r < count; r++) result = REDUCE_COMBINE(result, LOAD1_STORED(in, r));
  return result;
}

__kernel void reduce_each(
    __global STORED* restrict out, __global const STORED* restrict in, int R, int inner, long outputs) {
  const size_t index = get_global_id(0);
  if (index >= outputs) return;
  const REAL total = reduce_strided(in + index / inner * ((size_t)R * inner) + index % inner, R, inner);
  STORE1_STORED(out, index, total);
}

KEEL_CPU __kernel void reduce_rows(
    __global STORED* restrict out, __global const STORED* restrict in, int R, long outer, long block) {
  const size_t first = get_global_id(0) * block, last = min(first + (size_t)block, (size_t)outer);
  for (size_t row = first; row < last; row++) {
    const REAL total = reduce_contiguous(in + row * R, R);
    STORE1_STORED(out, row, total);
  }
}

KEEL_CPU __kernel void reduce_columns(
    __global STORED* restrict out, __global const STORED* restrict in, int R, int inner) {
  const size_t col = get_global_id(0) * 8, o = get_global_id(1);
  const int lanes = min((size_t)8, inner - col);
  __global const STORED* column = in + o * R * inner + col;
  REAL8 total = REDUCE_INIT;
  for (size_t first = 0; first < R; first += BLOCK) {
    const size_t last = min(first + BLOCK, (size_t)R);
    REAL8 part = REDUCE_INIT;
    for (size_t r = first; r < last; r++) {
      const REAL8 values = load_stored_lanes(column + r * inner, lanes, REDUCE_INIT);
      part = REDUCE_COMBINE(part, values);
    }
    total = REDUCE_COMBINE(total, part);
  }
  store_stored_lanes(out + o * inner + col, lanes, total);
}

__kernel void reduce_partial(
    __global REAL* restrict workspace, __global const STORED* restrict in, int R, int inner, long outputs,
    int sliceLength) {
  const size_t index = get_global_id(0), first = get_global_id(1) * sliceLength;
  if (index >= outputs || first >= R) return;
  const size_t count = min((size_t)sliceLength, R - first);
  __global const STORED* values = in + index / inner * ((size_t)R * inner) + first * inner + index % inner;
  workspace[get_global_id(1) * outputs + index] =
      inner == 1 ? reduce_contiguous(values, count) : reduce_strided(values, count, inner);
}

__kernel void reduce_merge(
    __global STORED* restrict out, __global const REAL* restrict workspace, int slices, long outputs) {
  const size_t index = get_global_id(0);
  if (index >= outputs) return;
  REAL total = REDUCE_INIT;
  for (size_t slice = 0; slice < slices; slice++) total = REDUCE_COMBINE(total, workspace[slice * outputs + index]);
  STORE1_STORED(out, index, total);
}
