internal import COpenCL

/// A launch under way, and its times once it is done. Times need a queue made with `profiling: true`.
// Sendable unchecked: an immutable handle; OpenCL calls on it are thread-safe.
public final class Event: @unchecked Sendable {
  let handle: cl_event
  /// The queue of the launch.
  public let queue: Queue

  init(_ handle: cl_event, queue: Queue) {
    self.handle = handle
    self.queue = queue
  }

  deinit { clReleaseEvent(handle) }

  /// Waits until the command is done. Throws the command's own error when it failed on the device.
  public func wait() throws(CLError) {
    var event: cl_event? = handle
    let status = clWaitForEvents(1, &event)
    guard status == CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST else {
      return try check(status, "clWaitForEvents")
    }
    let info = Info(call: "clGetEventInfo", subject: nil) { [handle] in clGetEventInfo(handle, $0, $1, $2, $3) }
    let outcome = try info.value(CL_EVENT_COMMAND_EXECUTION_STATUS, as: cl_int.self)
    throw CLError(
      call: "clWaitForEvents", code: outcome < 0 ? outcome : status, detail: "the command failed on the device")
  }

  /// When it began to run, in nanoseconds of the device's clock.
  public var started: UInt64 { get throws(CLError) { try time(CL_PROFILING_COMMAND_START) } }
  /// When it was done, in nanoseconds of the device's clock.
  public var ended: UInt64 { get throws(CLError) { try time(CL_PROFILING_COMMAND_END) } }
  /// `ended - started`, in nanoseconds.
  public var duration: UInt64 {
    get throws(CLError) {
      let (started, ended) = (try started, try ended)
      return ended > started ? ended - started : 0
    }
  }

  private func time(_ parameter: Int32) throws(CLError) -> UInt64 {
    var value: cl_ulong = 0
    let status = clGetEventProfilingInfo(
      handle, cl_profiling_info(parameter), MemoryLayout<cl_ulong>.size, &value, nil)
    try check(
      status, "clGetEventProfilingInfo",
      detail: queue.isProfiling ? "the command is not done yet: wait() first" : "the queue was made without profiling")
    return value
  }
}
