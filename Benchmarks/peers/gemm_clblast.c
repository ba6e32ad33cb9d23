// Time of CLBlast's single-precision product on an OpenCL device: one JSON line a product, as the other peers print.
//
//   gemm_clblast [--repeats n] [--device part-of-its-name] [MxNxK …]
//
// A run gives the in-order queue as many products as take some 10 ms and waits for the last; `microseconds` is the
// smallest mean of a run, `median` that of all. The default products are those of `keel bench gemm`.
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <clblast_c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

static void require(int status, const char *what) {
  if (status == 0) return;
  fprintf(stderr, "gemm_clblast: %s: %d\n", what, status);
  exit(1);
}

static cl_device_id find_device(const char *name) {
  cl_platform_id platforms[16];
  cl_uint platform_count = 0;
  require(clGetPlatformIDs(16, platforms, &platform_count), "clGetPlatformIDs");
  for (cl_uint p = 0; p < platform_count; p++) {
    cl_device_id devices[16];
    cl_uint device_count = 0;
    if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 16, devices, &device_count) != CL_SUCCESS) continue;
    for (cl_uint d = 0; d < device_count; d++) {
      char text[256] = "";
      clGetDeviceInfo(devices[d], CL_DEVICE_NAME, sizeof text, text, NULL);
      if (strstr(text, name) != NULL) return devices[d];
    }
  }
  fprintf(stderr, "gemm_clblast: no device with '%s' in its name\n", name);
  exit(1);
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static cl_mem matrix(cl_context context, cl_command_queue queue, size_t count) {
  float *values = malloc(count * sizeof(float));
  for (size_t i = 0; i < count; i++) values[i] = (float)rand() / RAND_MAX - 0.5f;
  cl_int status;
  cl_mem buffer = clCreateBuffer(context, CL_MEM_READ_WRITE, count * sizeof(float), NULL, &status);
  require(status, "clCreateBuffer");
  require(clEnqueueWriteBuffer(queue, buffer, CL_TRUE, 0, count * sizeof(float), values, 0, NULL, NULL), "write");
  free(values);
  return buffer;
}

int main(int count, char **arguments) {
  static const char *standard[] = {
      "256x256x256", "512x512x512", "1024x1024x1024", "2048x2048x2048", "32x32x784",   "784x32x32",   "32x10x32",
      "256x32x784",  "784x32x256",  "32x300x784",     "256x300x784",    "784x300x256", "256x100x300", "300x100x256",
      "1000x300x784"};
  const char *device_name = "";
  int repeats = 7, first = 1;
  for (; first + 1 < count && arguments[first][0] == '-'; first += 2) {
    if (strcmp(arguments[first], "--repeats") == 0) repeats = atoi(arguments[first + 1]);
    if (strcmp(arguments[first], "--device") == 0) device_name = arguments[first + 1];
  }
  const char **products = count > first ? (const char **)arguments + first : standard;
  const int product_count = count > first ? count - first : (int)(sizeof standard / sizeof *standard);
  if (repeats < 1 || repeats > 1000) require(1, "--repeats expects 1 to 1000");

  cl_int status;
  cl_device_id device = find_device(device_name);
  cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &status);
  require(status, "clCreateContext");
  cl_command_queue queue = clCreateCommandQueue(context, device, 0, &status);
  require(status, "clCreateCommandQueue");

  for (int product = 0; product < product_count; product++) {
    size_t m, n, k;
    if (sscanf(products[product], "%zux%zux%zu", &m, &n, &k) != 3) require(1, "expects products as 256x300x784");
    cl_mem a = matrix(context, queue, m * k), b = matrix(context, queue, k * n), c = matrix(context, queue, m * n);
    for (int kind = 0; kind < 3; kind++) {
      const int transpose_a = kind == 2, transpose_b = kind == 1;
      double times[1000];
      int calls = 1;
      // Two runs that are not counted: what is compiled at the first, how many make a run.
      for (int run = -2; run < repeats; run++) {
        const double begin = seconds();
        for (int call = 0; call < calls; call++)
          require(
              CLBlastSgemm(
                  CLBlastLayoutRowMajor, transpose_a ? CLBlastTransposeYes : CLBlastTransposeNo,
                  transpose_b ? CLBlastTransposeYes : CLBlastTransposeNo, m, n, k, 1, a, 0, transpose_a ? m : k, b, 0,
                  transpose_b ? k : n, 0, c, 0, n, &queue, NULL),
              "CLBlastSgemm");
        require(clFinish(queue), "clFinish");
        const double time = (seconds() - begin) / calls;
        if (run >= 0) times[run] = time;
        else calls = time < 0.01 ? (int)(0.01 / time) : 1;
      }
      qsort(times, repeats, sizeof *times, ascending);
      const double median = (times[(repeats - 1) / 2] + times[repeats / 2]) / 2;
      printf(
          "{\"peer\": \"clblast\", \"m\": %zu, \"n\": %zu, \"k\": %zu, \"transposition\": \"%s\", "
          "\"microseconds\": %.1f, \"median\": %.1f, \"gflops\": %.1f}\n",
          m, n, k, transpose_a ? "TN" : transpose_b ? "NT" : "NN", times[0] * 1e6, median * 1e6,
          2.0 * m * n * k / times[0] * 1e-9);
      fflush(stdout);
    }
    clReleaseMemObject(a);
    clReleaseMemObject(b);
    clReleaseMemObject(c);
  }
  return 0;
}
