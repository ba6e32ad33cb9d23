// Time of CLBlast's single-precision product on an OpenCL device: one JSON line a product, as the other peers print.
//
//   gemm_clblast [--repeats n] [--device part-of-its-name] [MxNxK …]
//   gemm_clblast --serve [--device part-of-its-name]
//
// A run gives the in-order queue as many products as take some 10 ms and waits for the last; `microseconds` is the
// smallest mean of a run, `median` that of all. The default products are those of `keel bench gemm`.
// With --serve it says who it is, and answers each line `256x300x784 NT` of standard input with the time of a run.
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
  // OpenCL's and CLBlast's codes are negative.
  if (status > 0) fprintf(stderr, "gemm_clblast: %s\n", what);
  else fprintf(stderr, "gemm_clblast: %s: %d\n", what, status);
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
  if (values == NULL) require(1, "no memory for a matrix");
  for (size_t i = 0; i < count; i++) values[i] = (float)rand() / RAND_MAX - 0.5f;
  cl_int status;
  cl_mem buffer = clCreateBuffer(context, CL_MEM_READ_WRITE, count * sizeof(float), NULL, &status);
  require(status, "clCreateBuffer");
  require(clEnqueueWriteBuffer(queue, buffer, CL_TRUE, 0, count * sizeof(float), values, 0, NULL, NULL), "write");
  free(values);
  return buffer;
}

enum kind { NN, NT, TN };
static const char *const kind_names[] = {"NN", "NT", "TN"};

typedef struct {
  size_t m, n, k;
  cl_mem a, b, c;
} product;

static product make_product(cl_context context, cl_command_queue queue, const char *text) {
  product p;
  if (sscanf(text, "%zux%zux%zu", &p.m, &p.n, &p.k) != 3) require(1, "expects products as 256x300x784");
  p.a = matrix(context, queue, p.m * p.k);
  p.b = matrix(context, queue, p.k * p.n);
  p.c = matrix(context, queue, p.m * p.n);
  return p;
}

static void release_product(product p) {
  clReleaseMemObject(p.a);
  clReleaseMemObject(p.b);
  clReleaseMemObject(p.c);
}

// Seconds of a call, as the mean of `calls` one after another.
static double run(cl_command_queue queue, product p, enum kind kind, int calls) {
  const double begin = seconds();
  for (int call = 0; call < calls; call++)
    require(
        CLBlastSgemm(
            CLBlastLayoutRowMajor, kind == TN ? CLBlastTransposeYes : CLBlastTransposeNo,
            kind == NT ? CLBlastTransposeYes : CLBlastTransposeNo, p.m, p.n, p.k, 1, p.a, 0, kind == TN ? p.m : p.k, p.b,
            0, kind == NT ? p.k : p.n, 0, p.c, 0, p.n, &queue, NULL),
        "CLBlastSgemm");
  require(clFinish(queue), "clFinish");
  return (seconds() - begin) / calls;
}

// How many calls make a run of some 10 ms. Two are made: the first compiles.
static int calls_of_run(cl_command_queue queue, product p, enum kind kind) {
  run(queue, p, kind, 1);
  const double time = run(queue, p, kind, 1);
  return time < 0.01 ? (int)(0.01 / time) : 1;
}

static void serve(cl_context context, cl_command_queue queue) {
  char line[128], current[128] = "";
  product p = {0};
  enum kind kind = NN;
  int calls = 0;
  puts("{\"peer\": \"clblast\"}");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (strcmp(line, current) != 0) {
      if (calls > 0) release_product(p);
      strcpy(current, line);
      char name[3] = "";
      if (sscanf(line, "%*s %2s", name) != 1) require(1, "expects a product and its transposition");
      for (kind = NN; strcmp(kind_names[kind], name) != 0; kind++)
        if (kind == TN) require(1, "expects NN, NT or TN");
      p = make_product(context, queue, line);
      calls = calls_of_run(queue, p, kind);
    }
    // The first run wakes the cores.
    run(queue, p, kind, calls);
    printf("{\"microseconds\": %.3f}\n", run(queue, p, kind, calls) * 1e6);
    fflush(stdout);
  }
}

int main(int count, char **arguments) {
  static const char *standard[] = {
      "256x256x256", "512x512x512", "1024x1024x1024", "2048x2048x2048", "32x32x784",   "784x32x32",   "32x10x32",
      "256x32x784",  "784x32x256",  "32x300x784",     "256x300x784",    "784x300x256", "256x100x300", "300x100x256",
      "1000x300x784"};
  const char *device_name = "";
  int repeats = 7, first = 1, serves = 0;
  for (; first < count && arguments[first][0] == '-'; first++) {
    if (strcmp(arguments[first], "--serve") == 0) serves = 1;
    else if (first + 1 == count) require(1, "an option without its value");
    else if (strcmp(arguments[first], "--repeats") == 0) repeats = atoi(arguments[++first]);
    else if (strcmp(arguments[first], "--device") == 0) device_name = arguments[++first];
    else require(1, "knows --serve, --repeats and --device");
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
  if (serves) {
    serve(context, queue);
    return 0;
  }

  for (int index = 0; index < product_count; index++) {
    const product p = make_product(context, queue, products[index]);
    for (enum kind kind = NN; kind <= TN; kind++) {
      const int calls = calls_of_run(queue, p, kind);
      double times[1000];
      for (int repeat = 0; repeat < repeats; repeat++) times[repeat] = run(queue, p, kind, calls);
      qsort(times, repeats, sizeof *times, ascending);
      const double median = (times[(repeats - 1) / 2] + times[repeats / 2]) / 2;
      printf(
          "{\"peer\": \"clblast\", \"m\": %zu, \"n\": %zu, \"k\": %zu, \"transposition\": \"%s\", "
          "\"microseconds\": %.1f, \"median\": %.1f, \"gflops\": %.1f}\n",
          p.m, p.n, p.k, kind_names[kind], times[0] * 1e6, median * 1e6, 2.0 * p.m * p.n * p.k / times[0] * 1e-9);
      fflush(stdout);
    }
    release_product(p);
  }
  return 0;
}
