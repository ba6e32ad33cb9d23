// Permutes the axes of a tensor of up to four axes.
//
//   out[i0, i1, i2, i3] = in[i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3]
//
//   n0 ... n3   sizes of out, row-major; leading ones where there are fewer axes
//   s0 ... s3   stride in `in`, in elements, of each axis of out
// Parameter: ELEMENT, REAL by default; any type of the elements' size will do, as nothing is computed.
// A stride of 0 repeats, so a broadcast to out's shape is the same kernel.
//
//   transpose_rows   CPU: a work-item per row of out; global [n2, n0 * n1], local [1, 1]
//   transpose_each   any device: a work-item per element; global [n0 * n1 * n2 * n3], or rounded up. Drivers have few
//                    groups on the other axes

#include "real.clh"

#ifndef ELEMENT
#define ELEMENT REAL
#endif

KEEL_CPU __kernel void transpose_rows(
    __global ELEMENT* restrict out, __global const ELEMENT* restrict in, int n0, int n1, int n2, int n3, int s0, int s1,
    int s2, int s3) {
  const size_t i2 = get_global_id(0), i0 = get_global_id(1) / n1, i1 = get_global_id(1) % n1;
  __global const ELEMENT* from = in + i0 * s0 + i1 * s1 + i2 * s2;
  __global ELEMENT* to = out + (get_global_id(1) * n2 + i2) * n3;
  for (size_t i3 = 0; i3 < n3; i3++) to[i3] = from[i3 * s3];
}

__kernel void transpose_each(
    __global ELEMENT* restrict out, __global const ELEMENT* restrict in, int n0, int n1, int n2, int n3, int s0, int s1,
    int s2, int s3) {
  const size_t i = get_global_id(0), row = i / n3, plane = row / n2;
  const size_t i3 = i % n3, i2 = row % n2, i1 = plane % n1, i0 = plane / n1;
  if (i0 >= n0) return;
  out[i] = in[i0 * s0 + i1 * s1 + i2 * s2 + i3 * s3];
}
