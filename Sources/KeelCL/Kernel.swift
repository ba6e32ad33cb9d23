internal import COpenCL

/// A kernel and its arguments. It keeps the buffers that it was given.
///
/// Not `Sendable`: setting arguments is the one OpenCL call that is not thread-safe. A launch that is bound once
/// owns its own `Kernel`; make another from the same `Program` for another binding.
public final class Kernel {
  let handle: cl_kernel
  /// As the source names it.
  public let name: String
  /// What it is a part of.
  public let program: Program
  /// Arguments in its signature.
  public let argumentCount: Int
  /// Most work-items in a group for this kernel on its device.
  public let workGroupSize: Int
  /// The local size that the source fixes with `reqd_work_group_size`; nil where it fixes none.
  public let requiredWorkGroupSize: [Int]?

  private enum Argument {
    case unset, value
    case buffer(Buffer)
  }
  private var arguments: [Argument]

  /// Takes ownership of `handle`.
  init(_ handle: cl_kernel, name: String, program: Program) {
    let device = program.context.device
    let info = Info(call: "clGetKernelInfo", subject: name) { clGetKernelInfo(handle, $0, $1, $2, $3) }
    let groupInfo = Info(call: "clGetKernelWorkGroupInfo", subject: name) {
      clGetKernelWorkGroupInfo(handle, device.handle, $0, $1, $2, $3)
    }
    self.handle = handle
    self.name = name
    self.program = program
    argumentCount = Int((try? info.value(CL_KERNEL_NUM_ARGS, as: cl_uint.self)) ?? 0)
    workGroupSize = (try? groupInfo.value(CL_KERNEL_WORK_GROUP_SIZE, as: Int.self)) ?? device.maxWorkGroupSize
    let required = (try? groupInfo.array(CL_KERNEL_COMPILE_WORK_GROUP_SIZE, of: Int.self)) ?? []
    requiredWorkGroupSize = required.contains { $0 > 0 } ? required : nil
    arguments = Array(repeating: .unset, count: argumentCount)
  }

  deinit { clReleaseKernel(handle) }

  /// Binds a buffer, and keeps it until another takes its place.
  public func setArgument(_ index: Int, _ buffer: Buffer) throws(CLError) {
    var memory: cl_mem? = buffer.handle
    try set(index, MemoryLayout<cl_mem?>.size, &memory, "a buffer of \(buffer.byteCount) bytes")
    arguments[index] = .buffer(buffer)
  }

  /// Passes an `int` by value.
  public func setArgument(_ index: Int, _ value: Int32) throws(CLError) { try set(index, scalar: value) }
  /// Passes a `long` by value.
  public func setArgument(_ index: Int, _ value: Int64) throws(CLError) { try set(index, scalar: value) }
  /// Passes a `float` by value.
  public func setArgument(_ index: Int, _ value: Float) throws(CLError) { try set(index, scalar: value) }
  /// Passes a `double` by value.
  public func setArgument(_ index: Int, _ value: Double) throws(CLError) { try set(index, scalar: value) }

  /// Positions of the arguments that were never set.
  var unsetArguments: [Int] {
    arguments.indices.filter { if case .unset = arguments[$0] { true } else { false } }
  }

  private func set<T: DeviceScalar>(_ index: Int, scalar: T) throws(CLError) {
    var value = scalar
    try set(index, MemoryLayout<T>.size, &value, "\(T.self) \(scalar)")
    arguments[index] = .value
  }

  private func set(
    _ index: Int, _ size: Int, _ value: UnsafeRawPointer?, _ what: @autoclosure () -> String
  ) throws(CLError) {
    guard arguments.indices.contains(index) else {
      throw CLError(
        call: "clSetKernelArg", subject: name, code: CL_INVALID_ARG_INDEX,
        detail: "expects an index below \(argumentCount), got \(index) for \(what())")
    }
    try check(
      clSetKernelArg(handle, cl_uint(index), size, value), "clSetKernelArg", name,
      detail: "argument \(index) of \(argumentCount): \(what())")
  }
}
