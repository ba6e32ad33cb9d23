// The end of a training step: moves the loop's counters, so that the launches of the next step are the same.
//
//   cursor[0] += batch     position of the next batch in the epoch's permutation
//   cursor[1] += 1         step in the epoch
//   cursor[2] += 1         step since the beginning
//
// Launch: global [1].

__kernel void advance(__global int* cursor, int batch) {
  if (get_global_id(0) > 0) return;
  cursor[0] += batch;
  cursor[1] += 1;
  cursor[2] += 1;
}
