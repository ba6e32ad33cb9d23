// Reduction over the middle axis: [outer, R, inner] -> [outer, inner].
//
//   out[o, i] = REDUCE_COMBINE over r of in[o, r, i], starting from REDUCE_INIT
//
// Parameters: REDUCE_INIT and REDUCE_COMBINE(a, b), an associative operation on REAL and its vectors; the sum by
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
//   reduce_lines     CPU: the same for COLUMN_CHUNK columns of one o, row by row;
//                    global [ceil(inner / COLUMN_CHUNK), slices, outer], local [1, 1, 1]
//   reduce_merge     the slices, 64 at most, in index order; global [outputs] or rounded up
//   reduce_merge_columns   CPU: the same, a work-item MERGED_COLUMNS outputs; global [ceil(outputs / MERGED_COLUMNS)],
//                    local [1]

#include "lanes.clh"

#ifndef REDUCE_COMBINE
#define REDUCE_INIT R(0.0)
#define REDUCE_COMBINE(a, b) ((a) + (b))
#endif

// Values combined in one go before they join the total.
#define BLOCK 64

// Columns whose totals a work-item keeps while it goes through rows, and whose slices one merges.
#define COLUMN_CHUNK 1024
#define MERGED_COLUMNS 64
// Elements of a line of the cache, and how many ahead of the loads work-items of CPU devices send for.
#define LINE (64 / (int)sizeof(STORED))
#define AHEAD (8192 / (int)sizeof(STORED))

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

static inline REAL reduce_vector(REAL8 value) {
  const REAL4 quads = REDUCE_COMBINE(value.lo, value.hi);
  const REAL2 pairs = REDUCE_COMBINE(quads.lo, quads.hi);
  return REDUCE_COMBINE(pairs.x, pairs.y);
}

// count neighbouring values.
static inline REAL reduce_contiguous(__global const STORED* in, size_t count) {
  const size_t whole = count / 64 * 64;
  REAL16 total0 = REDUCE_INIT, total1 = REDUCE_INIT, total2 = REDUCE_INIT, total3 = REDUCE_INIT;
  for (size_t first = 0; first < whole; first += 64 * BLOCK) {
    const size_t last = min(first + 64 * BLOCK, whole);
    REAL16 part0 = REDUCE_INIT, part1 = REDUCE_INIT, part2 = REDUCE_INIT, part3 = REDUCE_INIT;
    for (size_t r = first; r < last; r += 64) {
      for (int line = 0; line < 64; line += LINE) KEEL_PREFETCH(in + r + line + AHEAD);
      part0 = REDUCE_COMBINE(part0, LOAD16_STORED(in, r));
      part1 = REDUCE_COMBINE(part1, LOAD16_STORED(in, r + 16));
      part2 = REDUCE_COMBINE(part2, LOAD16_STORED(in, r + 32));
      part3 = REDUCE_COMBINE(part3, LOAD16_STORED(in, r + 48));
    }
    total0 = REDUCE_COMBINE(total0, part0);
    total1 = REDUCE_COMBINE(total1, part1);
    total2 = REDUCE_COMBINE(total2, part2);
    total3 = REDUCE_COMBINE(total3, part3);
  }
  const REAL16 total01 = REDUCE_COMBINE(total0, total1), total23 = REDUCE_COMBINE(total2, total3);
  const REAL16 total16 = REDUCE_COMBINE(total01, total23);
  REAL8 total = REDUCE_COMBINE(total16.lo, total16.hi);
  size_t r = whole;
  for (; r + 8 <= count; r += 8) {
    const REAL8 values = LOAD8_STORED(in, r);
    total = REDUCE_COMBINE(total, values);
  }
  REAL result = reduce_vector(total);
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

KEEL_CPU __kernel void reduce_lines(
    __global REAL* restrict workspace, __global const STORED* restrict in, int R, int inner, long outputs,
    int sliceLength) {
  const size_t left = get_global_id(0) * COLUMN_CHUNK, columns = min((size_t)COLUMN_CHUNK, inner - left);
  const size_t slice = get_global_id(1), o = get_global_id(2);
  const size_t first = slice * sliceLength, last = min(first + (size_t)sliceLength, (size_t)R);
  __global const STORED* corner = in + o * R * inner + left;
  __global REAL* to = workspace + slice * outputs + o * inner + left;

  const size_t vectors = columns / 8;
  REAL8 totals[COLUMN_CHUNK / 8], parts[COLUMN_CHUNK / 8];
  for (size_t k = 0; k < vectors; k++) totals[k] = parts[k] = REDUCE_INIT;
  for (size_t row = first; row < last; row++) {
    if ((row - first) % BLOCK == 0) {
      for (size_t k = 0; k < vectors; k++) {
        totals[k] = REDUCE_COMBINE(totals[k], parts[k]);
        parts[k] = REDUCE_INIT;
      }
    }
    for (size_t k = 0; k < vectors; k++) {
      const REAL8 values = LOAD8_STORED(corner + row * inner, 8 * k);
      parts[k] = REDUCE_COMBINE(parts[k], values);
    }
  }
  for (size_t k = 0; k < vectors; k++) totals[k] = REDUCE_COMBINE(totals[k], parts[k]);
  for (size_t k = 0; k < vectors; k++) STORE8(to, 8 * k, totals[k]);
  for (size_t col = 8 * vectors; col < columns; col++)
    to[col] = reduce_strided(corner + first * inner + col, last - first, inner);
}

static inline void merge_column(
    __global STORED* out, __global const REAL* workspace, size_t col, size_t slices, size_t outputs) {
  REAL total = REDUCE_INIT;
  for (size_t slice = 0; slice < slices; slice++) total = REDUCE_COMBINE(total, workspace[slice * outputs + col]);
  STORE1_STORED(out, col, total);
}

__kernel void reduce_merge(
    __global STORED* restrict out, __global const REAL* restrict workspace, int slices, long outputs) {
  const size_t index = get_global_id(0);
  if (index < outputs) merge_column(out, workspace, index, slices, outputs);
}

KEEL_CPU __kernel void reduce_merge_columns(
    __global STORED* restrict out, __global const REAL* restrict workspace, int slices, long outputs) {
  size_t col = get_global_id(0) * MERGED_COLUMNS;
  const size_t last = min(col + MERGED_COLUMNS, (size_t)outputs);
  for (; col + 8 <= last; col += 8) {
    REAL8 total = REDUCE_INIT;
    for (size_t slice = 0; slice < slices; slice++) {
      const REAL8 values = LOAD8(workspace, slice * outputs + col);
      total = REDUCE_COMBINE(total, values);
    }
    STORE8_STORED(out, col, total);
  }
  for (; col < last; col++) merge_column(out, workspace, col, slices, outputs);
}
