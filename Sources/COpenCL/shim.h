// The ICD loader's headers, seen at OpenCL 3.0; the 1.2 queue call stays usable on every driver.
#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
