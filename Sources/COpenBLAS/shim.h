// OpenBLAS, found when it is asked for: a build needs neither it nor its headers.
#ifndef KEEL_OPENBLAS_SHIM_H
#define KEEL_OPENBLAS_SHIM_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
  void (*sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
  void (*set_num_threads)(int);
  int (*get_num_threads)(void);
  char *(*get_config)(void);
  char *(*get_corename)(void);
} OpenBLAS;

/// Loads `file`; false when it is not there or is another library.
static inline bool openblas_load(OpenBLAS *blas, const char *file) {
  void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return false;
  *(void **)&blas->sgemm = dlsym(library, "cblas_sgemm");
  *(void **)&blas->set_num_threads = dlsym(library, "openblas_set_num_threads");
  *(void **)&blas->get_num_threads = dlsym(library, "openblas_get_num_threads");
  *(void **)&blas->get_config = dlsym(library, "openblas_get_config");
  *(void **)&blas->get_corename = dlsym(library, "openblas_get_corename");
  return blas->sgemm && blas->set_num_threads && blas->get_num_threads && blas->get_config && blas->get_corename;
}

static inline void openblas_set_threads(const OpenBLAS *blas, int count) { blas->set_num_threads(count); }
static inline int openblas_threads(const OpenBLAS *blas) { return blas->get_num_threads(); }
static inline const char *openblas_config(const OpenBLAS *blas) { return blas->get_config(); }
static inline const char *openblas_core(const OpenBLAS *blas) { return blas->get_corename(); }

/// c[m, n] = op(a)·op(b), all row-major and without gaps.
static inline void openblas_product(
    const OpenBLAS *blas, bool transpose_a, bool transpose_b, int m, int n, int k, const float *a, const float *b,
    float *c) {
  enum { row_major = 101, as_stored = 111, transposed = 112 };
  blas->sgemm(
      row_major, transpose_a ? transposed : as_stored, transpose_b ? transposed : as_stored, m, n, k, 1, a,
      transpose_a ? m : k, b, transpose_b ? k : n, 0, c, n);
}

#endif
