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
//   reduce_columns   CPU: a work-item owns COLUMN_CHUNK columns of one o; global [ceil(inner / COLUMN_CHUNK), outer],
//                    local [1, 1]
//   reduce_column_slices   the same of slices of sliceLength rows, into the workspace; global
//                    [ceil(inner / COLUMN_CHUNK), outer, slices], local [1, 1, 1]
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

// Columns whose results a work-item keeps while it goes through the rows, and rows that are combined in one go.
#define COLUMN_CHUNK 256
#define ROW_BLOCK 8

// Combines `rows` rows of `width` columns, which are `inner` apart.
static inline void combine_columns(
    REAL8* restrict totals, __global const STORED* restrict in, size_t rows, size_t inner, int width) {
  REAL8 parts[COLUMN_CHUNK / 8];
  for (int k = 0; k * 8 < width; k++) totals[k] = REDUCE_INIT;
  for (size_t first = 0; first < rows; first += BLOCK) {
    const size_t last = min(first + BLOCK, rows);
    for (int k = 0; k * 8 < width; k++) parts[k] = REDUCE_INIT;
    size_t r = first;
    for (; r + ROW_BLOCK <= last; r += ROW_BLOCK) {
      int col = 0;
      for (; col + 8 <= width; col += 8) {
        __global const STORED* at = in + r * inner + col;
        const REAL8 v0 = LOAD8_STORED(at, 0), v1 = LOAD8_STORED(at, inner), v2 = LOAD8_STORED(at, 2 * inner);
        const REAL8 v3 = LOAD8_STORED(at, 3 * inner), v4 = LOAD8_STORED(at, 4 * inner);
        const REAL8 v5 = LOAD8_STORED(at, 5 * inner), v6 = LOAD8_STORED(at, 6 * inner);
        const REAL8 v7 = LOAD8_STORED(at, 7 * inner);
        const REAL8 v01 = REDUCE_COMBINE(v0, v1), v23 = REDUCE_COMBINE(v2, v3), v45 = REDUCE_COMBINE(v4, v5);
        const REAL8 v67 = REDUCE_COMBINE(v6, v7), v0123 = REDUCE_COMBINE(v01, v23);
        const REAL8 v4567 = REDUCE_COMBINE(v45, v67), v = REDUCE_COMBINE(v0123, v4567);
        parts[col / 8] = REDUCE_COMBINE(parts[col / 8], v);
      }
      for (size_t row = r; col < width && row < r + ROW_BLOCK; row++) {
        const REAL8 values = load_stored_lanes(in + row * inner + col, width - col, REDUCE_INIT);
        parts[col / 8] = REDUCE_COMBINE(parts[col / 8], values);
      }
    }
    for (; r < last; r++) {
      for (int col = 0; col < width; col += 8) {
        const REAL8 values = load_stored_lanes(in + r * inner + col, min(8, width - col), REDUCE_INIT);
        parts[col / 8] = REDUCE_COMBINE(parts[col / 8], values);
      }
    }
    for (int k = 0; k * 8 < width; k++) totals[k] = REDUCE_COMBINE(totals[k], parts[k]);
  }
}

KEEL_CPU __kernel void reduce_columns(
    __global STORED* restrict out, __global const STORED* restrict in, int R, int inner) {
  const size_t left = get_global_id(0) * COLUMN_CHUNK, o = get_global_id(1);
  const int width = min((size_t)COLUMN_CHUNK, inner - left);
  REAL8 totals[COLUMN_CHUNK / 8];
  combine_columns(totals, in + o * R * inner + left, R, inner, width);
  for (int col = 0; col < width; col += 8)
    store_stored_lanes(out + o * inner + left + col, min(8, width - col), totals[col / 8]);
}

KEEL_CPU __kernel void reduce_column_slices(
    __global REAL* restrict workspace, __global const STORED* restrict in, int R, int inner, long outputs,
    int sliceLength) {
  const size_t left = get_global_id(0) * COLUMN_CHUNK, o = get_global_id(1), slice = get_global_id(2);
  const size_t first = slice * sliceLength, rows = min((size_t)sliceLength, R - first);
  const int width = min((size_t)COLUMN_CHUNK, inner - left);
  REAL8 totals[COLUMN_CHUNK / 8];
  combine_columns(totals, in + (o * R + first) * inner + left, rows, inner, width);
  __global REAL* to = workspace + slice * outputs + o * inner + left;
  for (int col = 0; col < width; col += 8) store_lanes(to + col, min(8, width - col), totals[col / 8]);
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
