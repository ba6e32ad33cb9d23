internal import COpenCL

/// A refusal of an OpenCL call: which call, on what, the code by name and number, and what was asked.
///
/// Prints as `clEnqueueNDRangeKernel gemm_tiled: CL_INVALID_WORK_GROUP_SIZE (-54), local 32x32, device limit 256`.
public struct CLError: Error, Equatable, CustomStringConvertible {
  /// The OpenCL entry point, e.g. `clCreateBuffer`.
  public let call: String
  /// What the call was about: a kernel, program, device or platform name. Nil where the call says it all.
  public let subject: String?
  /// The error code of the specification, or of an extension.
  public let code: Int32
  /// What was asked and what the limit is; empty where nothing is known beyond the code.
  public let detail: String
  /// The compiler's words, for a program that did not build.
  public let buildLog: String?

  /// The error `code` of `call`; a compiler's log goes into `buildLog`.
  public init(call: String, subject: String? = nil, code: Int32, detail: String = "", buildLog: String? = nil) {
    self.call = call
    self.subject = subject
    self.code = code
    self.detail = detail
    self.buildLog = buildLog
  }

  /// The name of `code`, e.g. `CL_INVALID_WORK_GROUP_SIZE`.
  public var codeName: String { Self.name(of: code) }

  public var description: String {
    var text = call
    if let subject { text += " \(subject)" }
    text += ": \(codeName) (\(code))"
    if !detail.isEmpty { text += ", \(detail)" }
    if let buildLog { text += "\n\(buildLog)" }
    return text
  }

  /// The name that the headers give to an error code; `unknown OpenCL error` for a code of no header.
  public static func name(of code: Int32) -> String { names[code] ?? "unknown OpenCL error" }

  /// Numbers, not header constants: a table that is complete whatever age the installed headers have.
  static let names: [Int32: String] = [
    0: "CL_SUCCESS",
    -1: "CL_DEVICE_NOT_FOUND",
    -2: "CL_DEVICE_NOT_AVAILABLE",
    -3: "CL_COMPILER_NOT_AVAILABLE",
    -4: "CL_MEM_OBJECT_ALLOCATION_FAILURE",
    -5: "CL_OUT_OF_RESOURCES",
    -6: "CL_OUT_OF_HOST_MEMORY",
    -7: "CL_PROFILING_INFO_NOT_AVAILABLE",
    -8: "CL_MEM_COPY_OVERLAP",
    -9: "CL_IMAGE_FORMAT_MISMATCH",
    -10: "CL_IMAGE_FORMAT_NOT_SUPPORTED",
    -11: "CL_BUILD_PROGRAM_FAILURE",
    -12: "CL_MAP_FAILURE",
    -13: "CL_MISALIGNED_SUB_BUFFER_OFFSET",
    -14: "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
    -15: "CL_COMPILE_PROGRAM_FAILURE",
    -16: "CL_LINKER_NOT_AVAILABLE",
    -17: "CL_LINK_PROGRAM_FAILURE",
    -18: "CL_DEVICE_PARTITION_FAILED",
    -19: "CL_KERNEL_ARG_INFO_NOT_AVAILABLE",
    -30: "CL_INVALID_VALUE",
    -31: "CL_INVALID_DEVICE_TYPE",
    -32: "CL_INVALID_PLATFORM",
    -33: "CL_INVALID_DEVICE",
    -34: "CL_INVALID_CONTEXT",
    -35: "CL_INVALID_QUEUE_PROPERTIES",
    -36: "CL_INVALID_COMMAND_QUEUE",
    -37: "CL_INVALID_HOST_PTR",
    -38: "CL_INVALID_MEM_OBJECT",
    -39: "CL_INVALID_IMAGE_FORMAT_DESCRIPTOR",
    -40: "CL_INVALID_IMAGE_SIZE",
    -41: "CL_INVALID_SAMPLER",
    -42: "CL_INVALID_BINARY",
    -43: "CL_INVALID_BUILD_OPTIONS",
    -44: "CL_INVALID_PROGRAM",
    -45: "CL_INVALID_PROGRAM_EXECUTABLE",
    -46: "CL_INVALID_KERNEL_NAME",
    -47: "CL_INVALID_KERNEL_DEFINITION",
    -48: "CL_INVALID_KERNEL",
    -49: "CL_INVALID_ARG_INDEX",
    -50: "CL_INVALID_ARG_VALUE",
    -51: "CL_INVALID_ARG_SIZE",
    -52: "CL_INVALID_KERNEL_ARGS",
    -53: "CL_INVALID_WORK_DIMENSION",
    -54: "CL_INVALID_WORK_GROUP_SIZE",
    -55: "CL_INVALID_WORK_ITEM_SIZE",
    -56: "CL_INVALID_GLOBAL_OFFSET",
    -57: "CL_INVALID_EVENT_WAIT_LIST",
    -58: "CL_INVALID_EVENT",
    -59: "CL_INVALID_OPERATION",
    -60: "CL_INVALID_GL_OBJECT",
    -61: "CL_INVALID_BUFFER_SIZE",
    -62: "CL_INVALID_MIP_LEVEL",
    -63: "CL_INVALID_GLOBAL_WORK_SIZE",
    -64: "CL_INVALID_PROPERTY",
    -65: "CL_INVALID_IMAGE_DESCRIPTOR",
    -66: "CL_INVALID_COMPILER_OPTIONS",
    -67: "CL_INVALID_LINKER_OPTIONS",
    -68: "CL_INVALID_DEVICE_PARTITION_COUNT",
    -69: "CL_INVALID_PIPE_SIZE",
    -70: "CL_INVALID_DEVICE_QUEUE",
    -71: "CL_INVALID_SPEC_ID",
    -72: "CL_MAX_SIZE_RESTRICTION_EXCEEDED",
    -1000: "CL_INVALID_GL_SHAREGROUP_REFERENCE_KHR",
    -1001: "CL_PLATFORM_NOT_FOUND_KHR",
    -1057: "CL_DEVICE_PARTITION_FAILED_EXT",
    -1058: "CL_INVALID_PARTITION_COUNT_EXT",
    -1059: "CL_INVALID_PARTITION_NAME_EXT",
    -1108: "CL_COMMAND_TERMINATED_ITSELF_WITH_FAILURE_ARM",
    -1121: "CL_CONTEXT_TERMINATED_KHR",
    -1138: "CL_INVALID_COMMAND_BUFFER_KHR",
    -1139: "CL_INVALID_SYNC_POINT_WAIT_LIST_KHR",
    -1140: "CL_INCOMPATIBLE_COMMAND_QUEUE_KHR",
    -1141: "CL_INVALID_MUTABLE_COMMAND_KHR",
    -1142: "CL_INVALID_SEMAPHORE_KHR",
  ]

  /// What to do when the loader finds no platform.
  static let installAdvice =
    "no OpenCL platform found; install one: `apt-get install ocl-icd-opencl-dev pocl-opencl-icd` (any CPU), "
    + "or the driver of your GPU's vendor"
}

/// Throws unless the call succeeded. `subject` and `detail` are worked out on failure only.
func check(
  _ status: cl_int, _ call: StaticString, _ subject: @autoclosure () -> String? = nil,
  detail: @autoclosure () -> String = ""
) throws(CLError) {
  guard status != CL_SUCCESS else { return }
  throw CLError(call: "\(call)", subject: subject(), code: status, detail: detail())
}

/// The handle that a creating call returned. A driver that returns neither handle nor error is an error too.
func created(
  _ handle: OpaquePointer?, _ status: cl_int, _ call: StaticString, _ subject: @autoclosure () -> String? = nil,
  detail: @autoclosure () -> String = ""
) throws(CLError) -> OpaquePointer {
  try check(status, call, subject(), detail: detail())
  guard let handle else {
    throw CLError(
      call: "\(call)", subject: subject(), code: CL_OUT_OF_RESOURCES, detail: "the driver returned no handle")
  }
  return handle
}
