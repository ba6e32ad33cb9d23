internal import COpenCL

/// An in-order command queue: commands run one after another, in the order they were given.
///
/// Launches, copies and fills return at once; `finish` waits for them. Reads and writes wait themselves.
// Sendable unchecked: an immutable handle; OpenCL calls on it are thread-safe.
public final class Queue: @unchecked Sendable {
  let handle: cl_command_queue
  /// Where it works; its buffers and kernels must be of the same.
  public let context: Context
  /// True when events of this queue carry times. It costs a little on every command.
  public let isProfiling: Bool

  /// A queue on the device of `context`; `profiling` gives its events times.
  public init(context: Context, profiling: Bool = false) throws(CLError) {
    self.context = context
    isProfiling = profiling
    var status: cl_int = 0
    // The call of OpenCL 1.2: every driver has it, and it can say all that Keel asks of a queue.
    let queue = clCreateCommandQueue(
      context.handle, context.device.handle, profiling ? cl_command_queue_properties(CL_QUEUE_PROFILING_ENABLE) : 0,
      &status)
    handle = try created(queue, status, "clCreateCommandQueue", context.device.name)
  }

  deinit { clReleaseCommandQueue(handle) }

  /// Launches `kernel` over `global` work-items in groups of `local` (nil: the driver's choice), one to three axes.
  ///
  /// Allocates nothing when `event` is false: the size arrays are handed to OpenCL as they are.
  /// - Returns: the launch's event if `event` is true, else nil.
  @discardableResult
  public func enqueue(
    _ kernel: Kernel, global: [Int], local: [Int]?, event: Bool = false
  ) throws(CLError) -> Event? {
    guard local == nil || local?.count == global.count, global.allSatisfy({ $0 > 0 }) else {
      throw refusal(
        global.contains { $0 <= 0 } ? CL_INVALID_GLOBAL_WORK_SIZE : CL_INVALID_WORK_DIMENSION, kernel, global, local)
    }
    var handleOfEvent: cl_event?
    let status =
      if event {
        clEnqueueNDRangeKernel(
          handle, kernel.handle, cl_uint(global.count), nil, global, local, 0, nil, &handleOfEvent)
      } else {
        clEnqueueNDRangeKernel(handle, kernel.handle, cl_uint(global.count), nil, global, local, 0, nil, nil)
      }
    guard status == CL_SUCCESS else { throw refusal(status, kernel, global, local) }
    return handleOfEvent.map { Event($0, queue: self) }
  }

  /// Kept apart from `enqueue` so that building the text stays off the launch path.
  @inline(never)
  private func refusal(_ code: Int32, _ kernel: Kernel, _ global: [Int], _ local: [Int]?) -> CLError {
    let device = context.device
    func extent(_ sizes: [Int]) -> String { sizes.map(String.init).joined(separator: "x") }
    var detail = "global \(extent(global)), local \(local.map(extent) ?? "free")"
    if code == CL_INVALID_KERNEL_ARGS {
      detail += ", \(kernel.argumentCount) arguments expected, not set: \(kernel.unsetArguments)"
    } else {
      detail += ", device limit \(device.maxWorkGroupSize)"
      if device.maxWorkItemSizes.contains(where: { $0 < device.maxWorkGroupSize }) {
        detail += " (\(extent(device.maxWorkItemSizes)) by axis)"
      }
      if kernel.workGroupSize < device.maxWorkGroupSize { detail += ", kernel limit \(kernel.workGroupSize)" }
      if let required = kernel.requiredWorkGroupSize { detail += ", kernel requires local \(extent(required))" }
    }
    return CLError(call: "clEnqueueNDRangeKernel", subject: kernel.name, code: code, detail: detail)
  }

  /// Waits until every command given so far is done.
  public func finish() throws(CLError) { try check(clFinish(handle), "clFinish", context.device.name) }
}
