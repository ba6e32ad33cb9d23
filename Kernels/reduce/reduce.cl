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
//   reduce_lines     CPU: the same for COLUMN_CHUNK columns of one o, row by row;
//                    global [ceil(inner / COLUMN_CHUNK), slices, outer], local [1, 1, 1]
//   reduce_merge     the slices, 64 at most, in index order; global [outputs] or rounded up
//
// On CPUs values are read from four or more places at a time: a core fetches ahead of each, within a page of 4 KiB.

#include "lanes.clh"

#ifndef REDUCE_COMBINE
#define REDUCE_INIT R(0.0)
#define REDUCE_COMBINE(a, b) ((a) + (b))
#endif

// Values combined in one go before they join the total.
#define BLOCK 64

// Columns whose totals a work-item keeps while it goes through rows.
#define COLUMN_CHUNK 1024
// Elements ahead of the loads for which work-items of CPU devices send: some 4 KiB.
#define AHEAD 1024

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
  REAL lane[8], result = REDUCE_INIT;
  vstore8(value, 0, lane);
  for (int l = 0; l < 8; l++) result = REDUCE_COMBINE(result, lane[l]);
  return result;
}

// Four times count values, `distance` apart; count is a multiple of 8.
static inline void reduce_streams(__global const STORED* in, size_t distance, size_t count, REAL8 totals[4]) {
  REAL8 total0 = REDUCE_INIT, total1 = REDUCE_INIT, total2 = REDUCE_INIT, total3 = REDUCE_INIT;
  for (size_t first = 0; first < count; first += 8 * BLOCK) {
    const size_t last = min(first + 8 * BLOCK, count);
    REAL8 part0 = REDUCE_INIT, part1 = REDUCE_INIT, part2 = REDUCE_INIT, part3 = REDUCE_INIT;
    for (size_t r = first; r < last; r += 8) {
      KEEL_PREFETCH(in + r + AHEAD);
      KEEL_PREFETCH(in + r + distance + AHEAD);
      KEEL_PREFETCH(in + r + 2 * distance + AHEAD);
      KEEL_PREFETCH(in + r + 3 * distance + AHEAD);
      part0 = REDUCE_COMBINE(part0, LOAD8_STORED(in, r));
      part1 = REDUCE_COMBINE(part1, LOAD8_STORED(in, r + distance));
      part2 = REDUCE_COMBINE(part2, LOAD8_STORED(in, r + 2 * distance));
      part3 = REDUCE_COMBINE(part3, LOAD8_STORED(in, r + 3 * distance));
    }
    total0 = REDUCE_COMBINE(total0, part0);
    total1 = REDUCE_COMBINE(total1, part1);
    total2 = REDUCE_COMBINE(total2, part2);
    total3 = REDUCE_COMBINE(total3, part3);
  }
  totals[0] = total0, totals[1] = total1, totals[2] = total2, totals[3] = total3;
}

// count neighbouring values.
static inline REAL reduce_contiguous(__global const STORED* in, size_t count) {
  const size_t quarter = count / 32 * 8;
  REAL8 totals[4];
  reduce_streams(in, quarter, quarter, totals);
  const REAL8 total01 = REDUCE_COMBINE(totals[0], totals[1]), total23 = REDUCE_COMBINE(totals[2], totals[3]);
  REAL8 total = REDUCE_COMBINE(total01, total23);
  size_t r = 4 * quarter;
  for (; r + 8 <= count; r += 8) total = REDUCE_COMBINE(total, LOAD8_STORED(in, r));
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
  const size_t quarter = (last - first) / 4, whole = R / 8 * 8;
  for (size_t row = first; row < first + quarter; row++) {
    REAL8 totals[4];
    reduce_streams(in + row * R, quarter * R, whole, totals);
    for (int k = 0; k < 4; k++) {
      const size_t at = row + k * quarter;
      REAL total = reduce_vector(totals[k]);
      for (size_t r = whole; r < R; r++) total = REDUCE_COMBINE(total, LOAD1_STORED(in, at * R + r));
      STORE1_STORED(out, at, total);
    }
  }
  for (size_t row = first + 4 * quarter; row < last; row++) {
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
  const size_t quarter = (last - first) / 4, distance = quarter * inner;
  for (size_t row = first; row < first + quarter; row++) {
    if ((row - first) % BLOCK == 0) {
      for (size_t k = 0; k < vectors; k++) {
        totals[k] = REDUCE_COMBINE(totals[k], parts[k]);
        parts[k] = REDUCE_INIT;
      }
    }
    __global const STORED* line = corner + row * inner;
    for (size_t k = 0; k < vectors; k++) {
      KEEL_PREFETCH(line + 8 * k + AHEAD);
      KEEL_PREFETCH(line + 8 * k + distance + AHEAD);
      KEEL_PREFETCH(line + 8 * k + 2 * distance + AHEAD);
      KEEL_PREFETCH(line + 8 * k + 3 * distance + AHEAD);
      const REAL8 value0 = LOAD8_STORED(line, 8 * k), value1 = LOAD8_STORED(line, 8 * k + distance);
      const REAL8 value2 = LOAD8_STORED(line, 8 * k + 2 * distance), value3 = LOAD8_STORED(line, 8 * k + 3 * distance);
      const REAL8 part0 = REDUCE_COMBINE(value0, value1), part1 = REDUCE_COMBINE(value2, value3);
      const REAL8 part = REDUCE_COMBINE(part0, part1);
      parts[k] = REDUCE_COMBINE(parts[k], part);
    }
  }
  for (size_t row = first + 4 * quarter; row < last; row++) {
    for (size_t k = 0; k < vectors; k++)
      parts[k] = REDUCE_COMBINE(parts[k], LOAD8_STORED(corner + row * inner, 8 * k));
  }
  for (size_t k = 0; k < vectors; k++) totals[k] = REDUCE_COMBINE(totals[k], parts[k]);
  for (size_t k = 0; k < vectors; k++) STORE8(to, 8 * k, totals[k]);
  for (size_t col = 8 * vectors; col < columns; col++)
    to[col] = reduce_strided(corner + first * inner + col, last - first, inner);
}

__kernel void reduce_merge(
    __global STORED* restrict out, __global const REAL* restrict workspace, int slices, long outputs) {
  const size_t index = get_global_id(0);
  if (index >= outputs) return;
  REAL total = REDUCE_INIT;
  for (size_t slice = 0; slice < slices; slice++) total = REDUCE_COMBINE(total, workspace[slice * outputs + index]);
  STORE1_STORED(out, index, total);
}
